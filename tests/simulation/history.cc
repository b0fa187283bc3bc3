#include "tests/simulation/history.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "larder/connectors/log/format/file_names.h"
#include "tests/simulation/caller.h"
#include "tests/simulation/tampering.h"
#include "tests/simulation/watch.h"
#include "tests/support/io/simulated_history.h"

namespace larder::simulation {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
/// Without faults nothing takes longer than this: longest stall, back-off of the probe, and room.
constexpr std::uint64_t kDrainWithinNs = 60 * kSecond;
constexpr int kTurnsWithoutTimeMax = 1000;
/// What follows the planned lives, without faults, until the history is long enough.
constexpr int kMoreLivesMax = 60;
constexpr std::uint32_t kOperationsOfMoreLives = 150;
constexpr const char* kBallast = "lost+found";

class History {
 public:
  explicit History(const HistoryOptions& options)
      : cut_at_(options.cut_at),
        plan_(make_plan(options.seed)),
        random_(options.seed),
        oracle_(plan_.keys),
        store_(plan_.path, plan_.disk, [this](Batch& batch) { caller_.on_batch(batch); }),
        caller_(plan_, random_, store_, oracle_, coverage_, options.trace),
        watch_(plan_, store_, oracle_, caller_, coverage_) {}

  HistoryResult run();

 private:
  bool has_failed() const { return !caller_.failure().empty(); }
  std::string what_it_lacks() const;
  void open();
  bool try_open();
  void die_while_opening();
  void run_life(Ending ending);
  void live(std::uint32_t operations);
  void step();
  void idle();
  void drain();
  void end_life(Ending ending);
  void close();
  void cut_power();
  void cut_power_for_good();
  void tamper_with_files();
  void check_set_aside();
  void squeeze_space();
  void fill_disk(std::uint64_t bytes_left);
  void remove_ballast();
  void note_what_a_power_cut_left();
  void note_disk_counts();

  void change_parameters();
  void restore_superblock();
  void forbid_files();
  void permit_files(std::vector<std::string>& names);
  bool has_unread_segment_gone();

  bool is_cut_due() const { return cut_at_ != 0 && watch_.segments_prepared() >= cut_at_; }

  const std::uint64_t cut_at_;
  Plan plan_;
  Random random_;
  Coverage coverage_;
  Oracle oracle_;
  StoreUnderTest store_;
  Caller caller_;
  Watch watch_;

  std::uint64_t opens_ = 0;
  std::uint64_t power_cuts_ = 0;
  std::uint64_t segments_ = 0;
  bool is_every_segment_reused_ = false;
  int turns_without_time_ = 0;
  std::uint64_t sync_errors_at_cut_ = 0;
  bool was_cut_ = false;
  bool was_clean_ = false;
  /// What is on the disk: the power was cut, and nobody wrote since.
  bool is_all_durable_ = false;
  std::map<std::size_t, log_store::Place> places_at_cut_;
  log_store::Superblock superblock_;
  Tampering tampering_;
  std::vector<std::byte> backup_;        ///< Of the superblock, from an earlier life.
  std::vector<std::string> unreadable_;  ///< Files that cannot be opened now.
  std::vector<std::string> immutable_;   ///< Those that can only be read.
};

// --- Opening ------------------------------------------------------------------------------------

bool History::try_open() {
  const io::SimulatedCounts before = store_.disk().counts();
  const SetupStatus opened = store_.open();
  const io::SimulatedCounts& after = store_.disk().counts();
  if (after.read_errors != before.read_errors) oracle_.on_tampering();
  if (opened) {
    if (!unreadable_.empty() && !has_unread_segment_gone()) {
      caller_.violation("L9: a segment cannot be read, and the store is open");
    }
    return true;
  }
  caller_.trace("open failed: %s", opened.error().text.c_str());
  const bool may_fail =
      opened.error().code == ErrorCode::kCancelled ||
      after.read_errors + after.write_errors + after.sync_errors + after.sync_directory_errors +
              after.allocate_errors + after.out_of_space !=
          before.read_errors + before.write_errors + before.sync_errors +
              before.sync_directory_errors + before.allocate_errors + before.out_of_space;
  if (after.refused_opens != before.refused_opens) {
    coverage_.note(Seen::kOpenRefused);
    return false;
  }
  if (!may_fail) caller_.violation("open: " + opened.error().text);
  return false;
}

void History::die_while_opening() {
  for (std::uint64_t deaths = random_.below(3); deaths > 0; --deaths) {
    store_.die_after(1 + random_.below(40));
    if (try_open()) {
      store_.kill();
    } else {
      coverage_.note(Seen::kKillWhileOpening);
    }
    if (random_.one_in(4)) {
      store_.disk().power_cut();
      oracle_.on_power_cut();
      is_all_durable_ = true;
      sync_errors_at_cut_ = store_.disk().counts().sync_errors;
    }
  }
  store_.die_after(0);
}

/// Everything that may differ between two opens of one store.
void History::change_parameters() {
  log_store::PathOptions& options = store_.options();
  const auto differs = [this] { return random_.one_in(2); };
  options.value_bytes_max = std::max(plan_.path.value_bytes_max >> random_.below(3),
                                     std::uint64_t{log_store::kGrainBytesMin} * 2);
  options.sync = differs() ? log_store::SyncMode::kBatch : log_store::SyncMode::kNone;
  options.delete_sync = differs();
  options.depth = differs() ? 3 : 32;
  options.io_bytes = differs() ? 16'384 : 65'536;
  options.coalesce_bytes = differs() ? 4'096 : 65'536;
  options.staging_bytes = differs() ? 1'048'576 : 2 * 65'536;
  caller_.trace("max_value %llu, sync %s, depth %u, io_bytes %u, coalesce %u, staging %llu",
                static_cast<unsigned long long>(options.value_bytes_max),
                options.sync == log_store::SyncMode::kBatch ? "batch" : "none", options.depth,
                options.io_bytes, options.coalesce_bytes,
                static_cast<unsigned long long>(options.staging_bytes));
}

/// The superblock of an earlier life, with whatever that one knew.
void History::restore_superblock() {
  const std::string name{log_store::kSuperblockFileName};
  const std::vector<std::string> names = store_.disk().names();
  // A killed owner's writes may still land over it.
  if (std::ranges::find(names, name) == names.end() || store_.disk().next_event_ns() != kNever ||
      store_.disk().file_bytes(name) < log_store::kSuperblockFileBytes) {
    return;
  }
  if (!backup_.empty() && random_.one_in(2)) {
    caller_.trace("an older superblock is restored");
    coverage_.note(Seen::kOlderSuperblock);
    store_.disk().write_image(name, 0, backup_);
  }
  if (backup_.empty() || random_.one_in(3)) {
    backup_ = store_.disk().read_image(name, 0, 2 * log_store::kSuperblockCopyStride);
  }
}

/// A run under another user, an immutable bit, a label.
void History::forbid_files() {
  permit_files(immutable_);
  for (const std::string& name : store_.disk().names()) {
    if (!log_store::segment_of_file_name(name) || !random_.one_in(4)) continue;
    const bool is_readable = random_.one_in(2);
    store_.disk().forbid_open(name, is_readable ? EPERM : EACCES, is_readable);
    (is_readable ? immutable_ : unreadable_).push_back(name);
    if (is_readable) coverage_.note(Seen::kSegmentOnlyRead);
  }
}

void History::permit_files(std::vector<std::string>& names) {
  const std::vector<std::string> there = store_.disk().names();
  for (const std::string& name : names) {
    if (std::ranges::find(there, name) != there.end()) store_.disk().permit_open(name);
  }
  names.clear();
}

/// A power cut or a death while opening may have taken it.
bool History::has_unread_segment_gone() {
  const std::vector<std::string> there = store_.disk().names();
  return std::ranges::any_of(unreadable_, [&](const std::string& name) {
    return std::ranges::find(there, name) == there.end();
  });
}

void History::open() {
  if (plan_.changes_capacity && opens_ > 0) {  // The first is the largest.
    const std::uint64_t less = random_.below(3) * plan_.path.segment_bytes;
    store_.options().capacity_bytes =
        std::max(plan_.path.capacity_bytes - less, (kSegmentsMin + 1) * plan_.path.segment_bytes);
  }
  if (plan_.changes_parameters && opens_ > 0) change_parameters();
  if (plan_.restores_superblock) restore_superblock();
  if (plan_.copies_by_reference && opens_ > 0 &&
      random_.one_in(2)) {  // No room for the superblock either.
    store_.disk().copy_by_reference();
    fill_disk(0);
  }
  if (plan_.forbids_files) forbid_files();
  if (plan_.dies_while_opening) die_while_opening();
  const bool trusts_recovered = store_.disk().counts().sync_errors == sync_errors_at_cut_;
  if (plan_.opens_with_faults) {
    store_.disk().faults() = plan_.open_faults;
    for (int tries = 0; tries < 3 && !store_.is_open() && !has_failed(); ++tries) try_open();
    store_.disk().faults() = plan_.disk.faults;
  }
  if (!unreadable_.empty() && !store_.is_open()) try_open();
  permit_files(unreadable_);
  for (int tries = 0; tries < 3 && !store_.is_open() && !has_failed(); ++tries) try_open();
  if (!store_.is_open()) return caller_.violation("the store does not open");

  const log_store::LogPath& path = store_.path();
  ++opens_;
  if (path.superblock().open_count <= superblock_.open_count) oracle_.forget_generations();
  superblock_ = path.superblock();
  segments_ = std::max<std::uint64_t>(segments_, path.segments_for_test().files_max());
  caller_.name_keys();
  watch_.on_open(trusts_recovered);
  check_set_aside();
  // The index was too small for all of it.
  for (std::size_t i = 0; plan_.has_tiny_index && i < plan_.keys; ++i) oracle_.excuse(i);
  caller_.trace("open, %llu keys", static_cast<unsigned long long>(path.keys()));
  if (path.counters().recovered_by_scan.value() > 0) coverage_.note(Seen::kTableLost);
  coverage_.note(Seen::kSetAside, path.counters().segments_set_aside.value());
  if (was_clean_ && path.head_for_test() && path.keys() > 0) coverage_.note(Seen::kHeadAdopted);
  if (was_cut_) note_what_a_power_cut_left();
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    if (const auto place = path.place_for_test(caller_.key(i))) {
      oracle_.note_home(i, place->generation);
    }
  }
  if (is_all_durable_ || !trusts_recovered) oracle_.judge_recovered_homes(is_all_durable_);
  watch_.observe();
}

/// L1: a segment that says that it is another one does not count. An owner that died meanwhile may
/// have begun to use it again.
void History::check_set_aside() {
  const std::vector<std::string> misplaced = std::move(tampering_.misplaced);
  tampering_ = {};
  if (plan_.dies_while_opening || plan_.opens_with_faults) return;
  const log_store::Segments& segments = store_.path().segments_for_test();
  for (const std::string& name : misplaced) {
    const log_store::Segment& segment = segments.at(*log_store::segment_of_file_name(name));
    if (segment.was_set_aside || segment.state() == log_store::SegmentState::kFailed) continue;
    caller_.violation("L1: " + name + " holds another segment and was not set aside");
  }
}

/// Holes: of two records of one unsealed segment only the later one is there.
void History::note_what_a_power_cut_left() {
  std::map<std::uint64_t, std::uint64_t> first_lost;  // Offset, by generation.
  for (const auto& [key, place] : places_at_cut_) {
    const auto now = store_.path().place_for_test(caller_.key(key));
    if (now && *now == place) continue;
    if (now && *now < place) coverage_.note(Seen::kTornNewestOverIntactOlder);
    const auto at = first_lost.try_emplace(place.generation, place.offset).first;
    at->second = std::min(at->second, place.offset);
  }
  for (const auto& [key, place] : places_at_cut_) {
    const auto now = store_.path().place_for_test(caller_.key(key));
    const auto lost = first_lost.find(place.generation);
    if (now && *now == place && lost != first_lost.end() && lost->second < place.offset) {
      coverage_.note(Seen::kHoleInUnsealedSegment);
    }
  }
}

// --- Living -------------------------------------------------------------------------------------

void History::step() {
  const std::uint64_t before_ns = store_.clock().now_ns();
  const std::size_t out_before = caller_.outstanding();
  store_.turn();
  watch_.observe();
  if (!store_.is_alive()) return;
  const log_store::LogPath& path = store_.path();
  if (caller_.outstanding() > 0 && path.counters().transfers_in_flight.value() == 0 &&
      !path.health().is_down() && path.next_timer_ns() > before_ns && !store_.has_news()) {
    caller_.violation("batches wait, the disk has nothing to do, and nobody will wake the path");
  }
  store_.wait(before_ns + kSecond);
  const bool moved = store_.clock().now_ns() != before_ns || caller_.outstanding() != out_before;
  turns_without_time_ = moved ? 0 : turns_without_time_ + 1;
  if (turns_without_time_ > kTurnsWithoutTimeMax) {
    caller_.violation("the path turns and turns, and nothing happens");
  }
}

/// Nobody asks for anything for a while: timers run.
void History::idle() {
  const std::uint64_t until_ns = store_.clock().now_ns() + random_.below(3 * kSecond);
  while (store_.is_alive() && !has_failed() && store_.clock().now_ns() < until_ns) step();
}

void History::squeeze_space() {
  const std::vector<std::string> names = store_.disk().names();
  if (std::ranges::find(names, kBallast) != names.end()) return remove_ballast();
  fill_disk(random_.below(2 * plan_.path.segment_bytes));
}

/// All but `bytes_left`, with something that is not the store's.
void History::fill_disk(std::uint64_t bytes_left) {
  auto other = store_.disk().mount();
  auto file = other->open(kBallast, io::OpenMode::kCreate);
  const auto space = other->space();
  if (file && space) {
    constexpr std::uint64_t kBlock = io::SimulatedDisk::kBlockBytes;
    const std::uint64_t bytes = space->free_bytes - std::min(space->free_bytes, bytes_left);
    other->allocate(*file, bytes / kBlock * kBlock).ignore("there may be a fault");
  }
}

void History::remove_ballast() {
  store_.disk().mount()->remove(kBallast).ignore("there may be none, and there is a next try");
}

void History::live(std::uint32_t operations) {
  store_.disk().faults() = plan_.faults;
  if (plan_.dies_inside_calls && random_.one_in(2)) store_.die_after(1 + random_.below(600));
  if (plan_.squeezes_space && random_.one_in(2)) squeeze_space();
  const std::uint64_t until = caller_.operations() + operations;
  while (caller_.operations() < until && store_.is_alive() && !has_failed() && !is_cut_due()) {
    if (caller_.outstanding() < plan_.outstanding_max) caller_.act();
    if (random_.one_in(plan_.squeezes_space ? 20 : 100)) idle();
    if (plan_.squeezes_space && random_.one_in(60)) squeeze_space();
    if (!immutable_.empty() && random_.one_in(60)) permit_files(immutable_);
    if (plan_.copies_by_reference && random_.one_in(80)) {
      caller_.trace("copies by reference");
      random_.one_in(2) ? store_.disk().copy_by_reference() : store_.disk().remove_copies();
      remove_ballast();
    }
    if (plan_.rots_while_running && random_.one_in(60)) {
      caller_.allow_corruption();
      coverage_.note(Seen::kBitRot);
      rot(random_, store_.disk());
    }
    const bool is_full = caller_.outstanding() >= plan_.outstanding_max;
    for (std::uint64_t steps = is_full ? 1 : random_.below(3);
         steps > 0 && store_.is_alive() && !is_cut_due(); --steps) {
      step();
    }
  }
}

/// Without faults everything comes back in bounded time, and is what it must be.
void History::drain() {
  store_.disk().faults() = plan_.disk.faults;
  store_.disk().remove_copies();
  const std::uint64_t until_ns = store_.clock().now_ns() + kDrainWithinNs;
  while (store_.is_alive() && caller_.outstanding() > 0 && !has_failed()) {
    if (store_.clock().now_ns() >= until_ns) {
      return caller_.violation("C1: a batch did not come back");
    }
    step();
  }
}

// --- Ending -------------------------------------------------------------------------------------

void History::close() {
  caller_.touch_one();
  caller_.note_stopping();
  store_.disk().faults() = plan_.disk.faults;
  const std::uint64_t sync_errors = store_.disk().counts().sync_errors;
  const std::uint64_t until_ns = store_.clock().now_ns() + kDrainWithinNs;
  store_.begin_stop();
  caller_.check_queues();
  caller_.check_refuses();
  do {
    step();
    if (store_.clock().now_ns() >= until_ns) {
      return caller_.violation("close: something did not end");
    }
  } while (store_.is_alive() && !store_.path().is_idle() && !has_failed());
  if (has_failed()) return;
  if (caller_.outstanding() > 0 && store_.is_alive()) {
    return caller_.violation("C1: idle, but a batch is out");
  }
  Status closed = Error{ErrorCode::kCancelled, "close", "killed"};
  if (store_.is_alive()) {
    closed = store_.close();
  } else {
    store_.kill();
  }
  caller_.trace("closed %s", closed ? "cleanly" : closed.error().to_string().c_str());
  was_clean_ = closed.has_value();
  if (closed && sync_errors == sync_errors_at_cut_) {
    coverage_.note(Seen::kCleanClose);
    oracle_.on_clean_close();
  } else {
    oracle_.on_kill();
  }
}

/// Its owner may have been killed just before.
void History::cut_power() {
  caller_.trace("power cut");
  coverage_.note(Seen::kPowerCut);
  ++power_cuts_;
  was_cut_ = true;
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    if (const auto place = store_.path().place_for_test(caller_.key(i))) {
      places_at_cut_[i] = *place;
    }
  }
  if (!store_.is_alive()) oracle_.on_kill();
  store_.cut_power();
  oracle_.on_power_cut();
  is_all_durable_ = true;
  sync_errors_at_cut_ = store_.disk().counts().sync_errors;
}

/// Of all that was not synced nothing survives.
void History::cut_power_for_good() {
  store_.die_after(0);
  store_.disk().faults() = plan_.disk.faults;
  store_.disk().faults().survives_power_cut = 0;
  store_.disk().faults().tears_in_power_cut = 0;
  cut_power();
  caller_.forget_all();
  store_.disk().faults() = plan_.disk.faults;
  store_.disk().release_stalls();
}

void History::end_life(Ending ending) {
  const bool drains = random_.one_in(3) || ending == Ending::kCleanClose;
  if (store_.is_alive() && drains) {
    drain();
    if (!has_failed() && store_.is_alive() && random_.one_in(2)) {
      caller_.read_all();
      drain();
    }
  }
  if (has_failed()) return;
  watch_.note_counters();
  if (store_.bytes_of_files() > plan_.path.capacity_bytes) {
    caller_.violation("P5: the files are larger than the capacity");
  }
  was_cut_ = was_clean_ = is_all_durable_ = false;
  places_at_cut_.clear();
  store_.die_after(0);
  if (ending == Ending::kPowerCut) {
    cut_power();
  } else if (ending == Ending::kCleanClose && store_.is_alive()) {
    close();
  } else {
    caller_.trace("kill");
    coverage_.note(Seen::kKill);
    store_.kill();
    oracle_.on_kill();
  }
  caller_.forget_all();
  store_.disk().faults() = plan_.disk.faults;
  store_.disk().release_stalls();
}

void History::tamper_with_files() {
  caller_.trace("tampering");
  tampering_ = tamper(random_, store_.disk(), superblock_);
  // A killed owner's header may still land over it.
  if (store_.disk().next_event_ns() != kNever) tampering_.misplaced.clear();
  if (tampering_.has_rotted) coverage_.note(Seen::kBitRot);
  if (tampering_.has_copied) coverage_.note(Seen::kCopiedSegment);
  if (tampering_.has_swapped) coverage_.note(Seen::kSwappedSegment);
  caller_.allow_corruption();
  oracle_.on_tampering();
}

// --- All of it ----------------------------------------------------------------------------------

void History::run_life(Ending ending) {
  open();
  if (has_failed()) return;
  caller_.probe_all();
  if (!random_.one_in(3)) {
    caller_.read_all();
    drain();
  }
  live(plan_.operations_per_life);
  if (is_cut_due() && !has_failed()) {
    cut_power_for_good();
    if (plan_.rots_while_running) oracle_.on_tampering();
    return;
  }
  is_every_segment_reused_ = watch_.is_every_segment_reused();
  end_life(ending);
  if (plan_.rots_while_running) oracle_.on_tampering();
  if (!has_failed() && plan_.tampers && random_.one_in(2)) tamper_with_files();
}

/// Empty when the history is as long as every history has to be.
std::string History::what_it_lacks() const {
  std::string lacks;
  const auto at_least = [&lacks](const char* what, std::uint64_t is, std::uint64_t wanted) {
    if (is >= wanted) return;
    lacks += std::string{lacks.empty() ? "" : ", "} + what + ' ' + std::to_string(is) + " of " +
             std::to_string(wanted);
  };
  at_least("operations", caller_.operations(), kOperationsMin);
  at_least("keys", plan_.keys, kKeysMin);
  at_least("keys of one fingerprint", caller_.keys_like(kTwins[0]), 2);
  at_least("segments", segments_, kSegmentsMin);
  at_least("segments begun", watch_.segments_begun(), kTurnsMin * segments_);
  at_least("restarts", opens_, kRestartsMin + 1);
  at_least("power cuts", power_cuts_, kPowerCutsMin);
  return lacks;
}

void History::note_disk_counts() {
  const io::SimulatedCounts& counts = store_.disk().counts();
  coverage_.note(Seen::kFailedSync, counts.sync_errors);
  coverage_.note(Seen::kReadError, counts.read_errors);
  coverage_.note(Seen::kWriteError, counts.write_errors);
  coverage_.note(Seen::kOutOfSpace, counts.out_of_space + counts.allocate_errors);
  coverage_.note(Seen::kReorderedCompletion, counts.reordered);
  coverage_.note(Seen::kShortTransfer, counts.short_transfers);
  coverage_.note(Seen::kTornWrite, counts.writes_torn);
  coverage_.note(Seen::kLostUnsyncedWrite, counts.writes_lost);
  coverage_.note(Seen::kLandedAfterDeath, counts.kill_later);
  coverage_.note(Seen::kLandedAfterError, counts.landed_after_error);
  coverage_.note(Seen::kRemovalRefused, counts.refused_removals);
  if (is_every_segment_reused_) coverage_.note(Seen::kEverySegmentReused);
  if (counts.alignment_errors > 0) caller_.violation("a transfer missed the alignment");
}

HistoryResult History::run() {
  caller_.before_checks([this] { watch_.read_events(); });
  if (plan_.faults.sync_error > 0) caller_.allow_corruption();
  if (plan_.opens_with_faults && plan_.open_faults.sync_error > 0) caller_.allow_corruption();
  for (const Ending ending : plan_.endings) {
    if (!has_failed() && !is_cut_due()) run_life(ending);
  }
  plan_.faults = plan_.disk.faults;
  plan_.operations_per_life = kOperationsOfMoreLives;
  for (int more = 0; more < kMoreLivesMax && !has_failed() && !is_cut_due(); ++more) {
    if (what_it_lacks().empty()) break;
    run_life(power_cuts_ < kPowerCutsMin ? Ending::kPowerCut : Ending::kKill);
  }
  if (!has_failed()) open();  // And once more, to see how the last life ended.
  if (!has_failed()) {
    caller_.probe_all();
    caller_.read_all();
    drain();
  }
  if (!has_failed()) watch_.note_counters();
  if (!has_failed() && cut_at_ == 0 && !what_it_lacks().empty()) {
    caller_.violation("the history is too short: " + what_it_lacks());
  }
  store_.kill();
  caller_.forget_all();
  note_disk_counts();

  HistoryResult result;
  result.failure = caller_.failure();
  result.hash = io::mix_history(store_.disk().history_hash(), caller_.hash());
  result.operations = caller_.operations();
  result.keys = plan_.keys;
  result.segments = segments_;
  result.segments_begun = watch_.segments_begun();
  result.segments_prepared = watch_.segments_prepared();
  result.restarts = opens_ - std::min<std::uint64_t>(opens_, 1);
  result.power_cuts = power_cuts_;
  result.coverage = coverage_;
  return result;
}

}  // namespace

HistoryResult run_history(const HistoryOptions& options) {
  return History{options}.run();
}

}  // namespace larder::simulation
