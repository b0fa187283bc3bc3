// Workers whose blocks the server copies (S17, S21 to S25).

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <variant>

#include "larder/base/check.h"
#include "larder/base/logging.h"
#include "larder/server/service_core.h"

namespace larder::server {
namespace {

/// Of block ids of all transfers in flight.
constexpr std::size_t kBlockIdsMax = std::size_t{64} << 20;
/// Of one look at the backend; the next turn takes the rest.
constexpr std::size_t kReapedAtOnce = 256;

template <class T>
std::unique_ptr<T> take_out(std::vector<std::unique_ptr<T>>& from, const CopyJob& job) {
  const auto found = std::ranges::find_if(
      from, [&](const std::unique_ptr<T>& each) { return &each->job == &job; });
  LARDER_CHECK(found != from.end());
  std::unique_ptr<T> taken = std::move(*found);
  *found = std::move(from.back());
  from.pop_back();
  return taken;
}

}  // namespace

// ---- Registrations.

void Service::Core::register_driven(const Request& request,
                                    const wire::KvCacheRegistration& arguments) {
  if (copies_backend_ == nullptr || options_.transfer_mode == TransferMode::kEngineDriven) {
    return fail(request,
                "this server copies for no worker; start it without --supported-transfer-mode "
                "engine_driven, or set the workers' lmcache.mp.mp_transfer_mode to engine_driven");
  }
  auto plan = make_copy_plan(
      arguments, {.chunk_tokens = chunk_tokens(),
                  .has_separate_groups = options_.object_groups != ObjectGroups::kTogether});
  if (!plan) return fail_registration(asker_of(request), plan.error().to_string());
  const auto checked = instances_.check(arguments.instance, arguments.model, arguments.world_size,
                                        *plan, request.connection, now_ns_);
  if (!checked) return fail_registration(asker_of(request), checked.error());
  // What the worker had before it has given up, or it would not register again (S17).
  end_instance({arguments.instance, true}, EndOfInstance::kReplaced);
  auto mapping = std::make_unique<Mapping>();
  mapping->asker = asker_of(request);
  mapping->worker = {.id = arguments.instance,
                     .model = std::string{arguments.model},
                     .world_size = arguments.world_size,
                     .plan = std::make_shared<const CopyPlan>(*std::move(plan))};
  mapping->job.op = CopyOp::kMap;
  mapping->job.plan = mapping->worker.plan;
  if (const Status submitted = copies_backend_->submit(mapping->job); !submitted) {
    return fail_registration(mapping->asker, submitted.error().to_string());
  }
  copies_.mappings.push_back(std::move(mapping));
}

void Service::Core::fail_registration(const Asker& asker, std::string_view why) {
  log(LogLevel::kWarning, "server", "a worker was not registered: " + std::string{why});
  fail(asker, why);
}

/// Its memory is mapped, or cannot be. It waits for copies of an earlier registration.
void Service::Core::finish_mappings() {
  for (std::size_t i = 0; i < copies_.mappings.size();) {
    const Mapping& mapping = *copies_.mappings[i];
    if (mapping.is_back && mapping.job.outcome == CopyOutcome::kDone && !mapping.is_given_up) {
      // Another one of this id may have been registered meanwhile.
      const WorkerId id{mapping.worker.id, true};
      if (instances_.check_free(id, mapping.asker.connection, now_ns_)) {
        end_instance(id, EndOfInstance::kReplaced);
      }
    }
    if (!mapping.is_back || is_ending(mapping.worker.id)) {
      ++i;
      continue;
    }
    finish(*take_out(copies_.mappings, mapping.job));
  }
}

void Service::Core::finish(Mapping& mapping) {
  if (mapping.job.outcome != CopyOutcome::kDone) {
    return fail_registration(mapping.asker, mapping.job.reason);
  }
  mapping.worker.view = mapping.job.view;
  const Connection* const connection = connections_.find(mapping.asker.connection);
  if (connection == nullptr || connection->is_closed) return end_view(nullptr, mapping.job.view);
  if (mapping.is_given_up) {
    end_view(nullptr, mapping.job.view);
    return fail(mapping.asker, "it was unregistered while its memory was mapped");
  }
  const auto instance = instances_.add(mapping.worker, mapping.asker.connection, now_ns_);
  if (!instance) {
    end_view(nullptr, mapping.job.view);
    return fail_registration(mapping.asker, instance.error());
  }
  ++totals_.instances_registered;
  warn_of_large_chunks(**instance);
  reply(mapping.asker, nullptr);
}

/// S17, S18. Nothing happens where there is no such worker.
void Service::Core::end_instance(const WorkerId& id, EndOfInstance why) {
  std::unique_ptr<Instance> instance = instances_.take(id);
  if (instance == nullptr) return;
  if (!id.is_driven) {
    const bool is_unregistered = why == EndOfInstance::kUnregistered;
    instances_.release(*instance,
                       is_unregistered ? cache::OwnerEnd::kUnregistered : cache::OwnerEnd::kReaped);
    if (why == EndOfInstance::kReaped) instances_.owe_false(id.id);
    return;
  }
  if (why != EndOfInstance::kUnregistered) {
    for (const auto& transfer : copies_.transfers) {
      if (transfer->instance == id.id) transfer->is_void = true;
    }
  }
  auto ending = std::make_unique<Ending>();
  const ViewId view = instance->view;
  ending->instance = std::move(instance);
  ending->owes_false = why == EndOfInstance::kReaped;
  end_view(std::move(ending), view);
}

void Service::Core::end_view(std::unique_ptr<Ending> ending, ViewId view) {
  if (ending == nullptr) ending = std::make_unique<Ending>();
  ending->job.op = CopyOp::kUnmap;
  ending->job.view = view;
  // K2: refused only by a backend that stops, and with it the service.
  static_cast<void>(copies_backend_->submit(ending->job));
  copies_.endings.push_back(std::move(ending));
}

void Service::Core::finish(Ending& ending) {
  if (ending.instance != nullptr) {
    // The backend has given back every copy before.
    instances_.release(*ending.instance, cache::OwnerEnd::kDead);
    if (ending.owes_false) instances_.owe_false(ending.instance->id);
  }
  for (const Asker& asker : ending.askers) reply(asker, nullptr);
}

bool Service::Core::is_ending(const wire::Integer& id) const noexcept {
  return std::ranges::any_of(copies_.endings, [&](const auto& ending) {
    return ending->instance != nullptr && ending->instance->id == id;
  });
}

/// S17: answered when nothing of the worker runs any more.
void Service::Core::unregister_driven(const Request& request, const wire::Integer& id) {
  for (const auto& mapping : copies_.mappings) {
    if (mapping->worker.id == id) mapping->is_given_up = true;
  }
  end_instance({id, true}, EndOfInstance::kUnregistered);
  for (const auto& ending : copies_.endings) {
    if (ending->instance == nullptr || ending->instance->id != id) continue;
    ending->askers.push_back(asker_of(request));
    return;
  }
  reply(request);
}

// ---- Transfers.

/// What both directions have in common. Null: it was answered.
std::unique_ptr<Transfer> Service::Core::begin_transfer(Request& request, const WorkerRange& range,
                                                        wire::BlockIds& blocks, wire::Frame event) {
  if (is_refused_as_stale(request)) return nullptr;
  if (const auto checked = check_blocks(*range.instance->plan, blocks, range.range.size());
      !checked) {
    fail(request, checked.error().to_string());
    return nullptr;
  }
  if (blocks.ids.size() > kBlockIdsMax - copies_.block_ids) {
    fail(request, "too many copies at once");
    return nullptr;
  }
  auto transfer = std::make_unique<Transfer>();
  transfer->asker = asker_of(request);
  transfer->instance = range.instance->id;
  transfer->chunks = range.range.size();
  transfer->blocks = std::move(blocks);
  transfer->event.assign(event.begin(), event.end());
  transfer->job.view = range.instance->view;
  transfer->job.blocks = &transfer->blocks;
  transfer->job.event = transfer->event;
  transfer->job.deadline_ns = request.received_ns + options_.transfer_start_ns;
  return transfer;
}

/// Gives the cells in cells_ to the backend. False: it takes no more, and the transfer says why.
bool Service::Core::submit(std::unique_ptr<Transfer>& transfer) {
  for (const cache::CellSlot& cell : cells_) {
    transfer->cells.push_back(
        {.offset = cell.slot.offset, .chunk = cell.chunk, .group = cell.group});
  }
  transfer->job.cells = transfer->cells;
  const Status submitted = copies_backend_->submit(transfer->job);
  if (!submitted) {
    transfer->job.reason = submitted.error().to_string();
    return false;
  }
  copies_.block_ids += transfer->blocks.ids.size();
  copies_.transfers.push_back(std::move(transfer));
  return true;
}

void Service::Core::store(Request& request, const wire::KeyReader& reader) {
  auto& arguments = std::get<wire::Store>(request.arguments);
  const auto range = read_transfer(request, reader, {arguments.instance, true});
  if (!range) return;
  auto transfer = begin_transfer(request, *range, arguments.blocks, arguments.event);
  if (transfer == nullptr) return;
  mark_null_chunks(*range, transfer->blocks);
  const cache::SkipMask skip{.words = skipped_};
  const auto write = engine_.begin_write({.owner = range->instance->owner,
                                          .space = range->space,
                                          .rank = range->rank,
                                          .range = range->range,
                                          .chunks = chunks_of(reader, range->range),
                                          .skip = &skip},
                                         cells_);
  // Everything is stored already, or nothing has room (S3).
  if (!write || cells_.empty()) {
    if (write) engine_.end_write(*write, cache::WriteEnd::kDiscard);
    return reply(request, wire::encode_transfer_done(true));
  }
  transfer->write = *write;
  transfer->job.op = CopyOp::kStore;
  if (submit(transfer)) return;
  engine_.end_write(*write, cache::WriteEnd::kDiscard);
  fail(request, transfer->job.reason);
}

/// S25, E17: the engine has given the null block for what it does not have.
void Service::Core::mark_null_chunks(const WorkerRange& range, const wire::BlockIds& blocks) {
  const CopyPlan& plan = *range.instance->plan;
  clear_skipped(range);
  if (options_.null_block_id < 0) return;
  const auto null_block = static_cast<std::uint32_t>(options_.null_block_id);
  for (std::uint32_t chunk = 0; chunk < range.range.size(); ++chunk) {
    for (std::size_t group = 0; group < plan.groups.size(); ++group) {
      if (!is_null_chunk(plan.groups[group], blocks, chunk, null_block)) continue;
      skip_cell(range, chunk, group);
    }
  }
}

void Service::Core::retrieve(Request& request, const wire::KeyReader& reader) {
  auto& arguments = std::get<wire::Retrieve>(request.arguments);
  const auto range = read_transfer(request, reader, {arguments.instance, true});
  if (!range) return;
  auto transfer = begin_transfer(request, *range, arguments.blocks, arguments.event);
  if (transfer == nullptr) return;
  const auto read = engine_.begin_read({.owner = range->instance->owner,
                                        .session = session_key(request, reader.key().request_id),
                                        .space = range->space,
                                        .rank = range->rank,
                                        .range = range->range,
                                        .chunks = chunks_of(reader, range->range),
                                        .is_separate = true},
                                       cells_);
  if (!read) return fail(request, "not every chunk of the range is there");
  if (cells_.empty()) {
    engine_.end_read(*read);
    return reply(request, wire::encode_transfer_done(true));
  }
  transfer->read = *read;
  transfer->job.op = CopyOp::kRetrieve;
  transfer->job.skip_tokens = arguments.skip_tokens;
  if (submit(transfer)) return;
  engine_.end_read(*read);
  fail(request, transfer->job.reason);
}

void Service::Core::finish(Transfer& transfer) {
  copies_.block_ids -= transfer.blocks.ids.size();
  bool is_good = transfer.job.outcome == CopyOutcome::kDone && !transfer.is_void;
  if (transfer.job.op == CopyOp::kStore) {
    const auto how = is_good ? cache::WriteEnd::kPublish : cache::WriteEnd::kDiscard;
    is_good = engine_.end_write(transfer.write, how) && is_good;
  } else {
    engine_.end_read(transfer.read);
    Instance* const instance = instances_.find({transfer.instance, true});
    if (is_good && instance != nullptr) instance->chunks_loaded += transfer.chunks;
  }
  if (!is_good) {
    return fail(transfer.asker, transfer.is_void
                                    ? "its worker may have given the blocks to other requests"
                                    : "the copy failed: " + transfer.job.error.to_string());
  }
  const wire::Bytes payload = wire::encode_transfer_done(true);
  reply(transfer.asker, &payload);
}

/// S15: what is queued is refused, and what runs is not published.
void Service::Core::void_transfers() {
  for (const auto& transfer : copies_.transfers) {
    transfer->is_void = true;
    copies_backend_->cancel(transfer->job);
  }
}

// ---- What comes back.

void Service::Core::on_copies() {
  if (copies_backend_ == nullptr) return;
  std::array<CopyJob*, kReapedAtOnce> done{};
  const std::size_t count = copies_backend_->reap(done);
  for (CopyJob* const job : std::span{done}.first(count)) {
    switch (job->op) {
      case CopyOp::kMap:
        std::ranges::find_if(copies_.mappings, [&](const auto& each) { return &each->job == job; })
            ->get()
            ->is_back = true;
        break;
      case CopyOp::kUnmap:
        finish(*take_out(copies_.endings, *job));
        break;
      case CopyOp::kStore:
      case CopyOp::kRetrieve:
        finish(*take_out(copies_.transfers, *job));
        break;
      case CopyOp::kChecksum:
        finish(*take_out(copies_.checksums, *job));
        break;
    }
  }
  finish_mappings();
}

}  // namespace larder::server
