#include "larder/connectors/log/machine/path.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/machine/recovery.h"
#include "larder/connectors/log/machine/setup_error.h"

namespace larder::log_store {
namespace {

/// A directory that only contains this may become a store.
bool is_harmless(const io::FileInfo& file) noexcept {
  return is_harmless_file_name(file.name);
}

bool is_harmless_or_superblock(const io::FileInfo& file) noexcept {
  return is_harmless(file) || file.name == kSuperblockFileName;
}

/// A store that this process owns now, and the other files in its directory.
struct OwnedStore {
  std::vector<io::FileInfo> files;
  Superblock superblock;
  Geometry geometry;
};

/// Makes a new store in an empty directory, or takes the existing one (L14).
SetupResult<OwnedStore> own_store(const PathOptions& options, io::Directory& directory,
                                  SuperblockFile& superblock_file, const std::string& where) {
  const auto cannot_list = [&where](const Error& error) {
    return setup_error(where, "cannot list the directory", error);
  };
  OwnedStore store;
  LARDER_ASSIGN(store.files, directory.list().map_error(cannot_list));
  const GeometryRequest wanted = geometry_request(options, directory.facts().alignment.offset);
  const bool is_new =
      std::ranges::find(store.files, kSuperblockFileName, &io::FileInfo::name) == store.files.end();
  if (is_new) {
    const auto foreign = std::ranges::find_if_not(store.files, is_harmless);
    if (foreign != store.files.end()) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "log: " + where +
                            " is not empty and has no larder store in it (it holds '" +
                            printable(foreign->name) + "'): name an empty or a new directory"};
    }
    LARDER_ASSIGN(store.geometry, make_geometry(wanted, where));
    LARDER_ASSIGN(store.superblock, superblock_file.create(store.geometry, options.id_seed));
    return store;
  }
  auto opened = superblock_file.open(options.lock_wait_ns);
  LARDER_ASSIGN(store.files,
                directory.list().map_error(cannot_list));  // As its last owner left it.
  const bool is_unfinished = !opened && superblock_file.is_blank() &&
                             std::ranges::all_of(store.files, is_harmless_or_superblock);
  if (is_unfinished) {  // Its maker died before the first write: nothing was ever stored.
    LARDER_ASSIGN(store.geometry, make_geometry(wanted, where));
    LARDER_ASSIGN(store.superblock, superblock_file.fill(store.geometry, options.id_seed));
    return store;
  }
  LARDER_ASSIGN(store.superblock, std::move(opened));
  LARDER_ASSIGN(store.geometry, geometry_of(store.superblock, wanted));
  return store;
}

/// One more than the greatest number of a segment's file.
std::uint32_t count_numbers(std::span<const io::FileInfo> files) {
  std::uint32_t numbers = 0;
  for (const io::FileInfo& file : files) {
    const auto number = segment_of_file_name(file.name);
    if (number && *number < kSegmentCountMax) numbers = std::max(numbers, *number + 1);
  }
  return numbers;
}

}  // namespace

// --- Opening ------------------------------------------------------------------------------------

SetupResult<std::unique_ptr<LogPath>> LogPath::open(const PathOptions& asked,
                                                    io::Directory& directory,
                                                    io::TransferQueue& queue, const Clock& clock,
                                                    const std::string& where) {
  auto superblock_file =
      std::make_unique<SuperblockFile>(directory, queue, clock, where, asked.opening_steps);
  LARDER_ASSIGN(OwnedStore store, own_store(asked, directory, *superblock_file, where));
  auto& [files, superblock, geometry] = store;
  PathOptions options = asked;
  // The requested settings hold from now on, and are remembered.
  options.capacity_bytes = superblock.capacity_bytes = geometry.capacity_bytes;
  options.value_bytes_max = geometry.value_bytes_limit;
  superblock.value_bytes_max = static_cast<std::uint32_t>(geometry.value_bytes_limit);
  const std::uint32_t files_at_close = std::exchange(superblock.segment_files, 0);
  const auto prefixed = [&where](const SetupError& error) {
    return SetupError{error.code, "log: " + where + ": " + error.text};
  };
  LARDER_ASSIGN(PathMemory memory,
                PathMemory::create(options, geometry.grain_bytes).map_error(prefixed));
  std::unique_ptr<LogPath> path{new LogPath{options, geometry, superblock, count_numbers(files),
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
  LARDER_ASSIGN(const std::uint64_t newest, recovery.survey(files).map_error(prefixed));
  const std::uint64_t previous = superblock.open_count;
  const bool was_clean = superblock.is_clean && newest <= previous;
  LARDER_TRY(path->session_.begin(newest));
  LARDER_ASSIGN(const Recovery::Outcome outcome,
                recovery.run(was_clean, previous).map_error(prefixed));
  std::string missing = missing_files_text(files, was_clean ? files_at_close : 0, geometry);
  if (!missing.empty()) path->state_.health.note_flaw(std::move(missing));
  if (outcome.head) path->session_.adopt_head(*outcome.head);
  path->appender_.owe_directory_sync();
  const auto info = directory.info(path->superblock_file_->file());
  path->space_watch_.begin(directory.space(), info ? info->inode : 0);
  path->turn();
  return path;
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
      items_(state_, loads_, appender_, reclaimer_),
      stall_watch_(state_, loads_, appender_),
      space_watch_(state_, appender_, *superblock_file_),
      session_(state_, *superblock_file_, appender_) {}

LogPath::~LogPath() = default;

// --- Turns --------------------------------------------------------------------------------------

/// Continues with hashed values; true if there was one.
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
  stall_watch_.turn(now_ns, superblock_file_->file());
  space_watch_.turn(now_ns, is_stopping_);
  tell_intake();
  // Tasks that wait for transfers or memory go before new ones that would take those.
  appender_.pump();
  loads_.pump();
  reclaimer_
      .turn();  // Few moves at a time, which callers that take every transfer must not starve.
  items_.turn();
  scanner_.turn();
  // Without hash threads the hashing is done already, and no wake-up comes for it, nor for tasks
  // that waited for the memory that it has freed.
  while (state_.options.hash_threads == 0 && take_hashed()) {
    appender_.pump();
    loads_.pump();
  }
  appender_.turn();
  tell_intake();
  publish_gauges();
  stall_watch_.note_next_turn(next_timer_ns());
}

std::uint64_t LogPath::next_timer_ns() const noexcept {
  return std::min({state_.intake.next_deadline_ns(), space_watch_.next_timer_ns(),
                   stall_watch_.next_timer_ns()});
}

/// Down answers at once: loads and lookups are misses, stores and deletes are refused.
void LogPath::tell_intake() noexcept {
  const bool is_down = state_.health.is_down();
  if (is_down != state_.intake.is_down()) state_.intake.set_down(is_down);
}

void LogPath::note_unblocked() noexcept {
  state_.counters.stalls_total.add();
  state_.health.note_unblocked(state_.clock.now_ns());
}

void LogPath::publish_gauges() noexcept {
  PathCounters& counters = state_.counters;
  counters.transfers_in_flight.set(state_.transfers.in_flight());
  const std::uint64_t files = state_.segments.files_count();
  counters.segments_free.set(appender_.free_segments());
  counters.segments_used.set(files - std::min<std::uint64_t>(files, state_.segments.free_count()));
  counters.segments_sealing.set(appender_.sealing());
  counters.segments_reclaiming.set(reclaimer_.is_reclaiming() ? 1 : 0);
  counters.bytes_on_disk.set(files * state_.segments.geometry().segment_bytes +
                             kSuperblockFileBytes);
  counters.bytes_live.set(state_.segments.live_bytes());
}

// --- The end ------------------------------------------------------------------------------------

void LogPath::begin_stop() noexcept {
  is_stopping_ = true;
  reclaimer_.stop();
  scanner_.stop();
}

bool LogPath::is_idle() const noexcept {
  return loads_.in_flight() == 0 && appender_.in_flight() == 0 && appender_.is_quiet() &&
         reclaimer_.is_quiet() && scanner_.is_quiet() && space_watch_.is_quiet() &&
         stall_watch_.is_quiet() && state_.file_calls->is_quiet() &&
         state_.transfers.in_flight() == 0;
}

Status LogPath::close() noexcept {
  LARDER_CHECK(is_idle());
  return session_.end();
}

// --- Any thread ---------------------------------------------------------------------------------

Status LogPath::look_up(Batch& batch) noexcept {
  return state_.intake.look_up(batch, [this](std::span<Item> items) {
    find(items);
    note_request(items);
  });
}

void LogPath::probe(std::span<Item> items) const noexcept {
  find(items);
  note_request(items);
  state_.intake.end_probe(items);
}

/// The loads and stores that follow have parts of it.
void LogPath::note_request(std::span<const Item> items) const noexcept {
  constexpr std::size_t kKeysMin = 4;  // For shorter ones a part says as much.
  if (items.size() < kKeysMin || items.size() > UINT32_MAX) return;
  if (!state_.options.wants_worth()) return;
  const auto first_miss =
      std::ranges::find_if(items, [](const Item& item) { return item.outcome != Outcome::kHit; });
  const RequestNotes::Request request{
      .keys = static_cast<std::uint32_t>(items.size()),
      .known = static_cast<std::uint32_t>(first_miss - items.begin())};
  state_.requests.put(state_.fingerprint(items.front().key), request);
  if (request.known > 0 && request.known < items.size()) {
    state_.requests.put(state_.fingerprint(first_miss->key), request);
  }
}

void LogPath::find(std::span<Item> items) const noexcept {
  constexpr std::size_t kAtOnce = 128;
  std::array<Fingerprint, kAtOnce> fingerprints;
  std::array<IndexEntry, kAtOnce> entries;
  std::array<std::uint8_t, kAtOnce> found{};
  const bool is_down = this->is_down();
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
      some[i].connector_words[1] = fingerprints[i].high;  // PathState::hash_of_lookup().
      if (some[i].key.empty() || some[i].key.size() > kKeyBytesMax) [[unlikely]] {
        some[i].outcome = Outcome::kFailed;
        some[i].error = Error{ErrorCode::kInvalidArgument, "log", "a key has 1 to 1024 bytes"};
      }
    }
    rest = rest.subspan(some.size());
  }
}

}  // namespace larder::log_store
