#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/server/service_core.h"

namespace larder::server {
namespace {

/// S11: about half a millisecond of hashing.
constexpr std::size_t kPieceTokens = 80'000;
/// Open reads of one worker: far more than any has, and a bound for one that never commits.
constexpr std::size_t kReadsMax = 4096;

wire::Frame key_frame(const wire::Arguments& arguments) {
  return std::visit(
      [](const auto& of_operation) -> wire::Frame {
        if constexpr (requires { of_operation.key; }) return of_operation.key;
        return {};
      },
      arguments);
}

}  // namespace

bool Service::Core::has_key(wire::Operation operation) noexcept {
  switch (operation) {
    case wire::Operation::kLookup:
    case wire::Operation::kFreeLookupLocks:
    case wire::Operation::kPrepareStore:
    case wire::Operation::kCommitStore:
    case wire::Operation::kPrepareRetrieve:
    case wire::Operation::kCommitRetrieve:
    case wire::Operation::kStore:
    case wire::Operation::kRetrieve:
      return true;
    default:
      return false;
  }
}

// ---- Turns.

std::unique_ptr<wire::KeyReader> Service::Core::take_reader() {
  if (readers_.empty()) {
    return std::make_unique<wire::KeyReader>(hashing().memo, hashing().hasher);
  }
  std::unique_ptr<wire::KeyReader> reader = std::move(readers_.back());
  readers_.pop_back();
  return reader;
}

bool Service::Core::work_on(Connection& connection) {
  Request& request = connection.requests.front();
  if (const auto* const end = std::get_if<wire::EndSession>(&request.arguments)) {
    engine_.end(session_key(request, end->request_id));  // Its reply was sent before.
  } else if (!has_key(request.operation)) {
    answer(connection, request);
  } else {
    std::unique_ptr<wire::KeyReader>& reader = in_work_[static_cast<std::uint64_t>(connection.id)];
    if (reader == nullptr) {
      reader = take_reader();
      reader->start(key_frame(request.arguments));
    }
    if (reader->advance(kPieceTokens) == wire::KeyReader::State::kMore) return false;
    answer_with_key(request, *reader);
    readers_.push_back(std::move(reader));
    in_work_.erase(static_cast<std::uint64_t>(connection.id));
  }
  // The connection was closed before this began.
  if (connection.is_closed) note_closed(connection.id);
  connections_.pop(connection);
  return true;
}

void Service::Core::answer_with_key(Request& request, const wire::KeyReader& reader) {
  if (reader.state() == wire::KeyReader::State::kFailed) {
    return fail(request, reader.error().to_string());
  }
  if (is_refused_at_end(request.operation)) {
    ++totals_.requests_refused;
    if (request.operation == wire::Operation::kLookup) {
      engine_.end_exactly(session_key(request, reader.key().request_id));
    }
    return fail(request, "the server is ending; connect again when it has been restarted");
  }
  switch (request.operation) {
    case wire::Operation::kLookup:
      return lookup(request, reader);
    case wire::Operation::kFreeLookupLocks:
      return free_locks(request, reader);
    case wire::Operation::kPrepareStore:
      return prepare_store(request, reader, std::get<wire::PrepareStore>(request.arguments));
    case wire::Operation::kCommitStore:
      return commit_store(request, reader, std::get<wire::CommitStore>(request.arguments));
    case wire::Operation::kPrepareRetrieve:
      return prepare_retrieve(request, reader, std::get<wire::PrepareRetrieve>(request.arguments));
    case wire::Operation::kCommitRetrieve:
      return commit_retrieve(request, reader, std::get<wire::CommitRetrieve>(request.arguments));
    case wire::Operation::kStore:
      return store(request, reader);
    case wire::Operation::kRetrieve:
      return retrieve(request, reader);
    default:
      break;
  }
}

// ---- The scheduler's requests.

/// The engine's form of the hashes of a range.
std::span<const cache::ChunkHash> Service::Core::chunks_of(const wire::KeyReader& reader,
                                                           cache::ChunkRange range) {
  const auto hashes = reader.hashes().subspan(range.begin, range.size());
  chunks_.resize(hashes.size());
  for (std::size_t i = 0; i < hashes.size(); ++i) chunks_[i].bytes = hashes[i];
  return chunks_;
}

void Service::Core::lookup(const Request& request, const wire::KeyReader& reader) {
  const wire::Key& key = reader.key();
  const cache::SessionKey session = session_key(request, key.request_id);
  const auto space = spaces_.find(engine_, key.model, key.world_size, key.salt);
  if (!space) {
    engine_.end_exactly(session);  // So QUERY answers 0.
    return reply(request);
  }
  const auto count = key.skip_load ? 0 : static_cast<std::uint32_t>(reader.hashes().size());
  const std::uint64_t begin = std::min<std::uint64_t>(key.start / chunk_tokens(), count);
  engine_.lookup(session, {.space = *space,
                           .chunks = chunks_of(reader, {0, count}),
                           .begin = static_cast<std::uint32_t>(begin),
                           .readers = key.kv_readers});
  reply(request);
}

/// Ranges of a lookup that the client has given up (`extra_ranges`) need nothing: a later lookup of
/// the request has ended it (E7).
void Service::Core::free_locks(const Request& request, const wire::KeyReader& reader) {
  const wire::Key& key = reader.key();
  const std::uint64_t chunk = chunk_tokens();
  constexpr std::uint64_t kMost = 0xFFFF'FFFF;
  const cache::ChunkRange range{
      .begin = static_cast<std::uint32_t>(std::min(key.start / chunk, kMost)),
      .end = static_cast<std::uint32_t>(std::min(key.end / chunk, kMost))};
  if (range.size() != 0) engine_.release(session_key(request, key.request_id), range);
  reply(request);
}

// ---- The workers' requests.

/// S15. True: it was answered, as failed.
bool Service::Core::is_refused_as_stale(const Request& request) {
  const bool is_stale = request.was_waiting || request.received_ns < stalled_ns_ ||
                        now_ns_ - request.received_ns > options_.transfer_start_ns;
  if (!is_stale) return false;
  ++totals_.transfers_stale;
  fail(request, "it waited for too long to be begun");
  return true;
}

std::optional<Service::Core::WorkerRange> Service::Core::read_transfer(
    const Request& request, const wire::KeyReader& reader, const WorkerId& id) {
  const wire::Key& key = reader.key();
  Instance* const instance = instances_.find(id);
  if (instance == nullptr) {
    instances_.owe_false(id.id);
    fail(request, "the instance is not registered; it is told to register again", false);
    return std::nullopt;
  }
  // A request from before the connection closed says nothing about where the worker is now.
  const Connection* const connection = connections_.find(request.connection);
  if (connection == nullptr || !connection->is_closed) {
    instances_.note_heard(*instance, request.connection, now_ns_);
  }
  if (const auto checked = wire::check_transfer_key(key, chunk_tokens()); !checked) {
    fail(request, checked.error().to_string());
    return std::nullopt;
  }
  if (key.model != instance->model || key.world_size != instance->world_size) {
    fail(request, "the key is of model \"" + printable(key.model) + "\" with world size " +
                      std::to_string(key.world_size) + "; the instance is registered with \"" +
                      printable(instance->model) + "\" and " +
                      std::to_string(instance->world_size));
    return std::nullopt;
  }
  const auto space = spaces_.find(engine_, key.model, key.world_size, key.salt);
  if (!space) {
    fail(request, "model name and salt are too long together, or there are too many salts");
    return std::nullopt;
  }
  instance->rank = key.worker;
  const std::uint64_t chunk = chunk_tokens();
  return WorkerRange{.instance = instance,
                     .space = *space,
                     .rank = *key.worker,
                     .range = {.begin = static_cast<std::uint32_t>(key.start / chunk),
                               .end = static_cast<std::uint32_t>(key.end / chunk)}};
}

/// Fills skipped_ with the range's SkipMask that skips nothing.
void Service::Core::clear_skipped(const WorkerRange& range) {
  const std::size_t groups = range.instance->layout_spec.groups.size();
  skipped_.assign((std::size_t{range.range.size()} * groups + 63) / 64, 0);
}

void Service::Core::skip_cell(const WorkerRange& range, std::uint32_t chunk, std::size_t group) {
  const std::size_t groups = range.instance->layout_spec.groups.size();
  const std::size_t bit = std::size_t{chunk} * groups + group;
  skipped_[bit / 64] |= std::uint64_t{1} << (bit % 64);
}

/// E17: chunks that the worker has no data for. False: the lists do not fit the instance.
bool Service::Core::mark_skipped(const WorkerRange& transfer, const wire::PrepareStore& arguments) {
  const std::size_t groups = transfer.instance->slots.size();
  clear_skipped(transfer);
  if (arguments.skipped_chunks.empty()) return true;
  if (arguments.skipped_chunks.size() != groups || !transfer.instance->has_groups) return false;
  for (std::size_t group = 0; group < groups; ++group) {
    for (const std::uint32_t chunk : arguments.skipped_chunks[group]) {
      if (chunk >= transfer.range.size()) return false;
      skip_cell(transfer, chunk, group);
    }
  }
  return true;
}

/// A worker that cannot open the pool sends the whole range, as a pickle.
void Service::Core::expect_inline_data(const Request& request, const WorkerRange& transfer) {
  const std::uint64_t bytes = transfer.instance->chunk_bytes() * transfer.range.size();
  sink_.expect(request.connection, bytes + bytes / 8);
}

void Service::Core::prepare_store(const Request& request, const wire::KeyReader& reader,
                                  const wire::PrepareStore& arguments) {
  const auto transfer = read_transfer(request, reader, {arguments.instance, false});
  if (!transfer) return;
  if (is_refused_as_stale(request)) return;
  if (!mark_skipped(*transfer, arguments)) {
    return fail(request,
                "skipped_chunks has to be empty, or one list for each registered group "
                "with chunks of the range");
  }
  expect_inline_data(request, *transfer);
  const cache::SkipMask skip{.words = skipped_};
  static_cast<void>(engine_.begin_write({.owner = transfer->instance->owner,
                                         .space = transfer->space,
                                         .rank = transfer->rank,
                                         .range = transfer->range,
                                         .chunks = chunks_of(reader, transfer->range),
                                         .skip = &skip},
                                        cells_));
  describe_slots(*transfer->instance);
  reply(request, wire::encode_store_slots(slots_, transfer->instance->has_groups));
}

/// Fills slots_ from cells_, group by group.
void Service::Core::describe_slots(const Instance& instance) {
  // Not stable_sort(): clang 19 rejects libstdc++ 12's, and it allocates.
  std::ranges::sort(cells_, {},
                    [](const cache::CellSlot& cell) { return std::pair{cell.group, cell.chunk}; });
  slots_.clear();
  for (const cache::CellSlot& cell : cells_) {
    slots_.push_back({.offset = cell.slot.offset,
                      .bytes = cell.slot.bytes,
                      .layout = &instance.slots[cell.group],
                      .chunk = cell.chunk,
                      .group = cell.group});
  }
}

void Service::Core::commit_store(const Request& request, const wire::KeyReader& reader,
                                 const wire::CommitStore& arguments) {
  const auto transfer = read_transfer(request, reader, {arguments.instance, false});
  if (!transfer) return;
  const auto write = engine_.open_write({.owner = transfer->instance->owner,
                                         .space = transfer->space,
                                         .rank = transfer->rank,
                                         .range = transfer->range,
                                         .chunks = chunks_of(reader, transfer->range)});
  // Inline data needs no reason of its own here: a worker whose PREPARE was refused sends it, too.
  if (!write) return fail(request, "no store of this range is open");
  if (arguments.has_data) {
    engine_.end_write(*write, cache::WriteEnd::kDiscard);
    constexpr std::string_view kWhy =
        "the worker sent its KV inline, because it cannot open the shared memory of this server; "
        "run both as the same user and with the same /dev/shm";
    if (!std::exchange(transfer->instance->has_sent_inline, true)) {
      log(LogLevel::kWarning, "server", kWhy);
    }
    return fail(request, kWhy);
  }
  if (!engine_.end_write(*write, cache::WriteEnd::kPublish)) {
    return fail(request, "the store of this range was given up");
  }
  reply(request, wire::encode_boolean(true));
}

void Service::Core::prepare_retrieve(const Request& request, const wire::KeyReader& reader,
                                     const wire::PrepareRetrieve& arguments) {
  const auto transfer = read_transfer(request, reader, {arguments.instance, false});
  if (!transfer) return;
  if (is_refused_as_stale(request)) return;
  Instance& instance = *transfer->instance;
  if (instance.reads.size() == kReadsMax) {
    return fail(request, "too many retrieves of this worker are open; it does not commit them");
  }
  const auto chunks = chunks_of(reader, transfer->range);
  const auto read = engine_.begin_read({.owner = instance.owner,
                                        .session = session_key(request, reader.key().request_id),
                                        .space = transfer->space,
                                        .rank = transfer->rank,
                                        .range = transfer->range,
                                        .chunks = chunks},
                                       cells_);
  if (!read) return fail(request, "not every chunk of the range is there");
  const bool is_known =
      std::ranges::find(instance.reads, *read, &OpenRead::read) != instance.reads.end();
  if (!is_known) {
    instance.reads.push_back({.begin = transfer->range.begin,
                              .end = transfer->range.end,
                              .last = chunks.back(),
                              .space = transfer->space,
                              .rank = transfer->rank,
                              .read = *read});
  }
  describe_slots(instance);
  reply(request, wire::encode_retrieve_slots(slots_, instance.has_groups));
}

/// Also true if nothing is open, as in LMCache: the client has what it wanted.
void Service::Core::commit_retrieve(const Request& request, const wire::KeyReader& reader,
                                    const wire::CommitRetrieve& arguments) {
  const auto transfer = read_transfer(request, reader, {arguments.instance, false});
  if (!transfer) return;
  const auto chunks = chunks_of(reader, transfer->range);
  std::vector<OpenRead>& reads = transfer->instance->reads;  // None is for an empty range.
  const auto found = std::ranges::find_if(reads, [&](const OpenRead& read) {
    return read.begin == transfer->range.begin && read.end == transfer->range.end &&
           read.space == transfer->space && read.rank == transfer->rank &&
           read.last == chunks.back();
  });
  if (found != reads.end()) {
    engine_.end_read(found->read);
    transfer->instance->chunks_loaded += transfer->range.size();
    reads.erase(found);
  }
  reply(request, wire::encode_boolean(true));
}

}  // namespace larder::server
