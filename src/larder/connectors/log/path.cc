#include "larder/connectors/log/path.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/connectors/log/blocking_io.h"
#include "larder/connectors/log/file_names.h"
#include "larder/connectors/log/recovery.h"
#include "larder/connectors/log/rule.h"
#include "larder/connectors/log/setup_error.h"

namespace larder::log_store {
namespace {

/// A directory that holds nothing but this may become a store.
bool is_harmless(const io::FileInfo& file) noexcept {
  return is_harmless_file_name(file.name);
}

bool is_harmless_or_superblock(const io::FileInfo& file) noexcept {
  return is_harmless(file) || file.name == kSuperblockFileName;
}

}  // namespace

// --- Opening ------------------------------------------------------------------------------------

SetupResult<std::unique_ptr<LogPath>> LogPath::open(const PathOptions& asked,
                                                    io::Directory& directory,
                                                    io::TransferQueue& queue, const Clock& clock,
                                                    const std::string& where) {
  PathOptions options = asked;
  auto files = directory.list();
  if (!files) return setup_error(where, "cannot list the directory", files.error());
  const auto superblock_at = std::ranges::find(*files, kSuperblockFileName, &io::FileInfo::name);
  auto superblock_file =
      std::make_unique<SuperblockFile>(directory, queue, clock, where, options.opening_steps);
  Superblock superblock;
  Geometry geometry;
  const GeometryRequest wanted = geometry_request(options, directory.facts().alignment.offset);
  const bool is_new = superblock_at == files->end();
  if (is_new) {
    const auto foreign = std::ranges::find_if_not(*files, is_harmless);
    if (foreign != files->end()) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "log: " + where +
                            " is not empty and has no larder store in it (it holds '" +
                            printable(foreign->name) + "'): name an empty or a new directory"};
    }
    LARDER_ASSIGN(geometry, make_geometry(wanted));
    LARDER_ASSIGN(superblock, superblock_file->create(geometry, options.id_seed));
  } else {
    auto opened = superblock_file->open(options.lock_wait_ns);
    LARDER_ASSIGN(*files, directory.list().map_error([&](const Error& error) {
      return setup_error(where, "cannot list the directory", error);
    }));
    const bool is_unfinished = !opened && superblock_file->is_blank() &&
                               std::ranges::all_of(*files, is_harmless_or_superblock);
    if (is_unfinished) {  // Its maker died before the first write: nothing was ever stored.
      LARDER_ASSIGN(geometry, make_geometry(wanted));
      LARDER_ASSIGN(superblock, superblock_file->fill(geometry, options.id_seed));
    } else {
      LARDER_ASSIGN(superblock, std::move(opened));
      LARDER_ASSIGN(geometry, geometry_of(superblock, wanted));
    }
  }
  // What was asked for counts from now on, and is remembered.
  options.capacity_bytes = superblock.capacity_bytes = geometry.capacity_bytes;
  options.value_bytes_max = geometry.value_bytes_limit;
  superblock.value_bytes_max = static_cast<std::uint32_t>(geometry.value_bytes_limit);
  const std::uint32_t files_at_close = std::exchange(superblock.segment_files, 0);
  std::uint32_t numbers = 0;
  for (const io::FileInfo& file : *files) {
    const auto number = segment_of_file_name(file.name);
    if (number && *number < kSegmentCountMax) numbers = std::max(numbers, *number + 1);
  }
  const auto prefixed = [&where](const SetupError& error) {
    return SetupError{error.code, "log: " + where + ": " + error.text};
  };
  LARDER_ASSIGN(PathMemory memory,
                PathMemory::create(options, geometry.grain_bytes).map_error(prefixed));
  std::unique_ptr<LogPath> path{new LogPath{options, geometry, superblock, numbers,
                                            std::move(memory), directory, queue, clock, where,
                                            std::move(superblock_file)}};
  auto pool = HashPool::create(options.hash_threads, [&queue] { queue.wake(); });
  if (!pool) {
    return setup_error(where, "cannot start hash threads", pool.error());
  }
  path->state_.hash_pool = std::move(*pool);
  auto calls = FileCalls::create(directory, queue, clock, options.has_file_thread);
  if (!calls) {
    return setup_error(where, "cannot start a thread for files", calls.error());
  }
  path->state_.file_calls = std::move(*calls);
  Recovery recovery{path->state_};
  LARDER_ASSIGN(const std::uint64_t newest, recovery.survey(*files).map_error(prefixed));
  const std::uint64_t previous = superblock.open_count;
  const bool was_clean = superblock.is_clean && newest <= previous;
  LARDER_TRY(path->begin_session(newest));
  LARDER_ASSIGN(const Recovery::Outcome outcome,
                recovery.run(was_clean, previous).map_error(prefixed));
  std::string missing = missing_files_text(*files, was_clean ? files_at_close : 0, geometry);
  if (!missing.empty()) path->state_.health.note_flaw(std::move(missing));
  if (outcome.head) path->adopt_head(*outcome.head);
  path->appender_.owe_directory_sync();
  if (const auto info = directory.info(path->superblock_file_->file())) {
    path->superblock_inode_ = info->inode;
  }
  if (const auto space = directory.space()) path->apply_space(*space, true);
  path->turn();
  return path;
}

/// Goes on in the segment that a clean close left open, unless to write to it would take new
/// blocks. Its checkpoint goes first: an older superblock, of just that close, would believe it
/// again, and what is appended behind it would be lost, or overwritten under the same places.
void LogPath::adopt_head(std::uint32_t number) {
  Segment& segment = state_.segments.at(number);
  const bool is_shared = state_.directory.shares_blocks(segment_file_name(number)).value_or(false);
  if (!state_.is_frozen && !is_shared) {
    BlockingIo io{state_.queue, state_.clock, state_.options.opening_steps};
    const std::uint64_t trailer_at =
        state_.segments.geometry().segment_bytes - state_.grain_bytes();
    const bool is_void =
        is_broken(Rule::kVoidCheckpoint) || is_broken(Rule::kAppendOnlyAfterCleanEnd) ||
        (io.write(segment.file, trailer_at, state_.zeros.span()) && io.sync(segment.file));
    if (is_void) return appender_.adopt_head(number);
    segment.sync_failed = true;  // L13, and nobody knows what is there now.
  }
  state_.segments.note_sealed(number);  // Its table is in memory.
}

/// L2: the open count is raised and synced before anything else is written. `newest`: the greatest
/// that the segments tell of. One above the superblock's means that the superblock is older than
/// they are, a backup of itself alone: generations that followed from it would be older than those
/// on the disk, and what is stored now would be outranked by what was stored before.
SetupStatus LogPath::begin_session(std::uint64_t newest) {
  Superblock& superblock = state_.superblock;
  const bool is_older = newest > superblock.open_count && !is_broken(Rule::kNewestOpenCount);
  if (is_older) {
    state_.health.note_flaw("the superblock is older than the segments (opened " +
                            std::to_string(superblock.open_count) + " times, they " +
                            std::to_string(newest) +
                            "): it was restored, or is of a backup; the count goes on from theirs");
    superblock.open_count = newest;
  }
  superblock.is_clean = false;
  if (!is_broken(Rule::kRaiseOpenCount)) ++superblock.open_count;
  superblock.segment_count = state_.segments.geometry().segment_count;
  if (const Status written = superblock_file_->write(superblock); !written) {
    if (is_lack_of_space(written.error().sys_errno())) {
      freeze(written.error());
      return {};
    }
    return setup_error(state_.health.where(), "cannot write the superblock", written.error());
  }
  superblock_file_->write_owner_note(state_.options.owner_note);
  appender_.begin_generations(superblock.open_count);
  return {};
}

void LogPath::freeze(const Error& why) {
  state_.is_frozen = true;
  state_.health.set_condition("superblock",
                              "the superblock cannot be written (" + why.to_string() +
                                  "): what the store has is served, and nothing is stored or "
                                  "deleted until there is room; free some space");
}

LogPath::LogPath(const PathOptions& options, const Geometry& geometry, const Superblock& superblock,
                 std::uint32_t segment_numbers, PathMemory memory, io::Directory& directory,
                 io::TransferQueue& queue, const Clock& clock, const std::string& where,
                 std::unique_ptr<SuperblockFile> superblock_file)
    : state_(options, geometry, superblock, segment_numbers, std::move(memory), directory, queue,
             clock, where),
      superblock_file_(std::move(superblock_file)),
      loads_(state_),
      appender_(state_),
      reclaimer_(state_, loads_, appender_),
      scanner_(state_),
      superblock_writer_(state_),
      probe_(state_) {}

LogPath::~LogPath() = default;

template <class Task>
Task& LogPath::Pool<Task>::take() {
  if (free.empty()) return all.emplace_back();
  Task& task = *free.back();
  free.pop_back();
  return task;
}

// --- Ending -------------------------------------------------------------------------------------

void LogPath::end_item(const Owner& owner, Outcome outcome) noexcept {
  owner.item->outcome = outcome;
  state_.intake.end(*owner.batch, *owner.item, {});
  state_.intake.finish(*owner.batch, 1);
}

void LogPath::end_item(const Owner& owner, const Error& error, bool says_of_key) noexcept {
  state_.intake.end(*owner.batch, *owner.item, error, says_of_key);
  state_.intake.finish(*owner.batch, 1);
}

// --- Scheduling ---------------------------------------------------------------------------------

/// Goes on with what was hashed; tells whether there was something.
bool LogPath::take_hashed() noexcept {
  HashJob* job = state_.hash_pool->reap();
  const bool had_some = job != nullptr;
  while (job != nullptr) {
    HashJob* const next = job->next;
    if (job->tag == kHashOfTransfer) {
      loads_.on_hashed(*static_cast<Transfer*>(job->user_data));
    } else {
      appender_.on_hashed(*static_cast<StoreTask*>(job->user_data));
    }
    job = next;
  }
  return had_some;
}

void LogPath::turn() noexcept {
  const std::uint64_t now_ns = state_.clock.now_ns();
  state_.transfers.poll();
  state_.file_calls->poll();
  take_hashed();
  state_.intake.expire();
  watch_stalls(now_ns);
  watch_files(now_ns);
  watch_space(now_ns);
  tell_intake();
  // What waits for transfers or memory comes before what would take them.
  appender_.pump();
  loads_.pump();
  reclaimer_
      .turn();  // Few moves at a time, which callers that take every transfer must not starve.
  schedule();
  scanner_.turn();
  // Without hash threads it is done already, and nobody will wake us for it, nor for those that
  // waited for the memory that this has freed.
  while (state_.options.hash_threads == 0 && take_hashed()) {
    appender_.pump();
    loads_.pump();
  }
  appender_.turn();
  tell_intake();
  publish_gauges();
  next_turn_ns_ = next_timer_ns();
}

/// Starts items while there are transfers for them. What is blocked stays the first of its queue.
void LogPath::schedule() noexcept {
  QueueMask blocked = 0;
  while (state_.transfers.available() > 0) {
    const Ticket ticket = state_.intake.take(kLane, blocked);
    if (!ticket) return;
    Item& item = ticket.items.front();
    if (&item == ticket.batch->items.data()) unsynced(*ticket.batch) = 0;
    if (!state_.intake.begin(*ticket.batch, item)) {
      state_.intake.finish(ticket);
    } else if (start_item(*ticket.batch, item) == Start::kBlocked) {
      blocked |= QueueMask{1} << queue_of(ticket.batch->op, ticket.batch->urgency);
      state_.intake.put_back(ticket);
    }
  }
}

LogPath::Start LogPath::start_item(Batch& batch, Item& item) noexcept {
  switch (batch.op) {
    case Op::kGet:
      return start_get(batch, item);
    case Op::kSet:
      return start_set(batch, item);
    case Op::kDelete:
      return start_delete(batch, item);
    default:
      touch(batch, item);
      return Start::kStarted;
  }
}

LogPath::Start LogPath::start_get(Batch& batch, Item& item) noexcept {
  if (loads_.has_waiting()) return Start::kBlocked;
  GetTask& task = gets_.take();
  task.owner = {.batch = &batch, .item = &item};
  task.load.fingerprint = state_.fingerprint(item.key);
  task.load.key = item.key;
  task.load.value = item.value;
  task.load.allow_shorter = batch.allow_shorter;
  task.load.sink = this;
  task.load.user_data = &task;
  loads_.start(task.load);
  return Start::kStarted;
}

void LogPath::on_load(LoadTask& load) noexcept {
  GetTask& task = *static_cast<GetTask*>(load.user_data);
  const Owner owner = task.owner;
  const Outcome outcome = load.outcome;
  const Error error = load.error;
  const auto entry = state_.index.find(load.fingerprint);
  if (outcome == Outcome::kHit || error.code() == ErrorCode::kSizeMismatch) {
    owner.item->value_bytes = load.value_bytes;
  }
  if (outcome == Outcome::kHit && entry && !entry->was_read) {
    state_.index.set_was_read(load.fingerprint);
  }
  const bool is_current = entry && entry->location == load.location;
  gets_.give(task);
  // What was read and is bad has left the index, and what replaced it meanwhile is another value.
  if (outcome == Outcome::kFailed) return end_item(owner, error, is_current);
  end_item(owner, outcome);
}

LogPath::Start LogPath::start_set(Batch& batch, Item& item) noexcept {
  if (appender_.has_waiting()) return Start::kBlocked;
  const Fingerprint fingerprint = state_.fingerprint(item.key);
  if (state_.intake.set_mode_of(batch, item) == SetMode::kIfAbsent) {
    if (const auto entry = state_.index.find(fingerprint)) {
      if (!entry->was_read) state_.index.set_was_read(fingerprint);
      item.existed = true;
      end_item({.batch = &batch, .item = &item}, Outcome::kDone);
      return Start::kStarted;
    }
    // C4: of several in flight one writes. The others wait to see whether it succeeds.
    if (state_.guard.busy(fingerprint)) return Start::kBlocked;
  }
  SetTask& task = sets_.take();
  task.owner = {.batch = &batch, .item = &item};
  task.store.fingerprint = fingerprint;
  task.store.key = item.key;
  task.store.value = item.value;
  task.store.value_bytes = bytes_of(item.value);
  task.store.wants_sync = state_.options.sync == SyncMode::kBatch;
  task.store.source.reset();
  task.store.sink = this;
  task.store.user_data = &task;
  const Admission admission = appender_.start_store(task.store);
  if (admission == Admission::kStarted) return Start::kStarted;
  const Owner owner = task.owner;
  sets_.give(task);
  if (admission == Admission::kWait) return Start::kBlocked;
  state_.counters.sets_refused_total.add();
  end_item(owner, appender_.refusal());
  return Start::kStarted;
}

bool LogPath::on_written(StoreTask& store) noexcept {
  Batch& batch = *static_cast<SetTask*>(store.user_data)->owner.batch;
  return ++unsynced(batch) >= Intake::items_left(batch);
}

void LogPath::on_store(StoreTask& store) noexcept {
  SetTask& task = *static_cast<SetTask*>(store.user_data);
  const Owner owner = task.owner;
  const Error error = store.error;
  if (error.code() == ErrorCode::kNone) {
    owner.item->value_bytes = store.value_bytes;
  } else if (error.code() == ErrorCode::kResourceExhausted && error.sys_errno() == 0) {
    reclaimer_.request_early();  // The index is full. A file system that is gains nothing by it.
  }
  if (store.wants_sync && unsynced(*owner.batch) > 0) --unsynced(*owner.batch);
  sets_.give(task);
  if (error.code() != ErrorCode::kNone) return end_item(owner, error);
  end_item(owner, Outcome::kDone);
}

LogPath::Start LogPath::start_delete(Batch& batch, Item& item) noexcept {
  const Owner owner{.batch = &batch, .item = &item};
  if (appender_.has_waiting()) return Start::kBlocked;
  if (is_broken(Rule::kTombstoneAlways) && !state_.index.find(state_.fingerprint(item.key))) {
    end_item(owner, Outcome::kMiss);
    return Start::kStarted;
  }
  EraseTask& task = erases_.take();
  task.owner = owner;
  task.erase.fingerprint = state_.fingerprint(item.key);
  task.erase.key = item.key;
  task.erase.wants_sync = state_.options.delete_sync || state_.options.sync == SyncMode::kBatch;
  task.erase.sink = this;
  task.erase.user_data = &task;
  const Admission admission = appender_.start_delete(task.erase);
  if (admission == Admission::kStarted) return Start::kStarted;
  erases_.give(task);
  if (admission == Admission::kWait) return Start::kBlocked;
  end_item(owner, Error{ErrorCode::kResourceExhausted, "log",
                        "no segment with room for the tombstone; nothing was deleted"});
  return Start::kStarted;
}

void LogPath::on_delete(DeleteTask& erase) noexcept {
  EraseTask& task = *static_cast<EraseTask*>(erase.user_data);
  const Owner owner = task.owner;
  const Error error = erase.error;
  const bool existed = erase.existed;
  erases_.give(task);
  if (error.code() != ErrorCode::kNone) return end_item(owner, error);
  end_item(owner, existed ? Outcome::kDone : Outcome::kMiss);
}

void LogPath::touch(Batch& batch, Item& item) noexcept {
  const Fingerprint fingerprint = state_.fingerprint(item.key);
  const auto entry = state_.index.find(fingerprint);
  if (entry && !entry->was_read) state_.index.set_was_read(fingerprint);
  end_item({.batch = &batch, .item = &item}, entry ? Outcome::kDone : Outcome::kMiss);
}

// --- Any thread ---------------------------------------------------------------------------------

Status LogPath::look_up(Batch& batch) noexcept {
  LARDER_TRY(state_.intake.admit(batch));
  bool are_all_open = true;
  for (Item& item : batch.items) are_all_open &= state_.intake.begin(batch, item);
  if (are_all_open) {
    probe(batch.items);
  } else {
    for (Item& item : batch.items) {
      if (item.outcome == Outcome::kPending) probe({&item, 1});
    }
  }
  state_.intake.finish(batch, batch.items.size());
  return {};
}

void LogPath::probe(std::span<Item> items) const noexcept {
  constexpr std::size_t kAtOnce = 128;
  std::array<Fingerprint, kAtOnce> fingerprints;
  std::array<IndexEntry, kAtOnce> entries;
  std::array<std::uint8_t, kAtOnce> found{};
  const bool is_down = state_.intake.is_down();
  std::span<Item> rest = items;
  while (!rest.empty()) {
    const auto some = rest.first(std::min(rest.size(), kAtOnce));
    for (std::size_t i = 0; i < some.size(); ++i) {
      fingerprints[i] = state_.fingerprint(some[i].key);
    }
    state_.index.find_many(std::span{fingerprints}.first(some.size()),
                           std::span{entries}.first(some.size()),
                           std::span{found}.first(some.size()));
    for (std::size_t i = 0; i < some.size(); ++i) {
      const bool is_there = found[i] != 0 && !is_down;
      some[i].outcome = is_there ? Outcome::kHit : Outcome::kMiss;
      some[i].miss_reason = is_down ? MissReason::kDown : MissReason::kAbsent;
      some[i].value_bytes = is_there ? entries[i].value_bytes : 0;
      some[i].error = {};
      if (some[i].key.empty() || some[i].key.size() > kKeyBytesMax) [[unlikely]] {
        some[i].outcome = Outcome::kFailed;
        some[i].error = Error{ErrorCode::kInvalidArgument, "log", "a key has 1 to 1024 bytes"};
      }
    }
    rest = rest.subspan(some.size());
  }
  state_.intake.miss_failed(items);
}

}  // namespace larder::log_store
