#include "tests/simulation/history.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "larder/io/simulated_history.h"
#include "tests/simulation/caller.h"
#include "tests/simulation/tampering.h"

namespace larder::simulation {
namespace {

using log_store::Segment;
using log_store::SegmentState;

constexpr std::uint64_t kSecond = 1'000'000'000;
/// Without faults nothing takes longer than this: longest stall, back-off of the probe, and room.
constexpr std::uint64_t kDrainWithinNs = 60 * kSecond;
constexpr int kTurnsWithoutTimeMax = 1000;
constexpr std::uint64_t kOperationsMax = 3000;
constexpr const char* kBallast = "lost+found";
constexpr std::array kStateNames = {"absent",  "free",   "preparing",  "ready", "open",
                                    "sealing", "sealed", "reclaiming", "failed"};

class History {
 public:
  explicit History(const HistoryOptions& options)
      : plan_(make_plan(options.seed)),
        random_(options.seed),
        oracle_(plan_.keys),
        store_(plan_.path, plan_.disk, [this](Batch& batch) { caller_.on_batch(batch); }),
        caller_(plan_, random_, store_, oracle_, coverage_, options.trace) {}

  HistoryResult run();

 private:
  bool has_failed() const { return !caller_.failure().empty(); }
  void open();
  bool try_open();
  void live(std::uint32_t operations);
  void step();
  void observe();
  void read_events();
  void drain();
  void end_life(Ending ending);
  void close();
  void squeeze_space();
  void note_faults();
  void note_what_a_power_cut_left();

  Plan plan_;
  Random random_;
  Coverage coverage_;
  Oracle oracle_;
  StoreUnderTest store_;
  Caller caller_;

  EventCursor events_from_;
  std::uint64_t evicted_ = 0;
  std::uint64_t readmitted_ = 0;
  std::uint64_t oldest_ = 0;
  std::uint64_t newest_prepared_ = 0;
  int turns_without_time_ = 0;
  std::uint64_t life_begun_ = 0;  ///< Step.
  std::uint64_t sync_errors_at_cut_ = 0;
  bool trusts_recovered_ = true;  ///< No failed sync since the last power cut, before this life.
  bool was_cut_ = false;
  bool is_all_durable_ =
      false;  ///< What is on the disk: the power was cut, and nobody wrote since.
  bool was_clean_ = false;
  std::set<std::uint64_t> opened_;  ///< Generations that were appended to in this life.
  std::map<std::uint32_t, std::uint64_t> uses_;  ///< Of each segment, in generations.
  std::map<std::uint32_t, std::uint64_t> last_generation_;
  std::map<std::uint32_t, SegmentState> last_state_;
  std::map<std::size_t, log_store::Place> places_at_cut_;
};

// --- Looking at the store -----------------------------------------------------------------------

/// After each turn: what moved, what was evicted, what is durable by now.
void History::observe() {
  if (!store_.is_alive()) return;
  log_store::LogPath& path = store_.path();
  if (path.health().is_down()) {
    caller_.note_path_is_down();
    coverage_.note(Seen::kPathDown);
  }
  const log_store::Segments& segments = path.segments_for_test();
  std::uint64_t first_unsealed = UINT64_MAX;
  std::uint64_t newest = 0;
  std::uint64_t prepared = 0;
  std::vector<std::uint64_t> on_disk;
  std::vector<std::uint64_t> sealed;
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    if (segment.generation != last_generation_[i] && segment.generation != 0) {
      last_generation_[i] = segment.generation;
      ++uses_[i];
    }
    prepared = std::max(prepared, segment.generation);
    if (segment.state != last_state_[i]) {
      last_state_[i] = segment.state;
      caller_.trace("segment %u, generation %llx: %s%s", i,
                    static_cast<unsigned long long>(segment.generation),
                    kStateNames[static_cast<std::size_t>(segment.state)],
                    segment.sync_failed        ? ", a sync failed"
                    : segment.table != nullptr ? ", table in memory"
                                               : "");
    }
    const bool is_open =
        segment.state == SegmentState::kOpen || segment.state == SegmentState::kSealing;
    const bool is_sealed =
        segment.state == SegmentState::kSealed || segment.state == SegmentState::kReclaiming;
    if (is_open || is_sealed) newest = std::max(newest, segment.generation);
    if (is_open) opened_.insert(segment.generation);
    const bool is_of_this_life = opened_.contains(segment.generation);
    const bool is_synced = is_sealed && !segment.sync_failed;
    if (is_open || (is_sealed && !is_synced)) {
      first_unsealed = std::min(first_unsealed, segment.generation);
    } else if (is_sealed && (trusts_recovered_ || is_of_this_life)) {
      sealed.push_back(segment.generation);
    }
    if (segment.has_file && segment.generation != 0 && segment.state != SegmentState::kPreparing &&
        segment.state != SegmentState::kReady && segment.state != SegmentState::kFailed) {
      on_disk.push_back(segment.generation);
    }
    if (segment.state == SegmentState::kReclaiming && segment.pins > 0) {
      coverage_.note(Seen::kReadPinnedAcrossReclaim);
    }
  }
  caller_.set_newest_generation(newest);
  read_events();
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    const auto place = path.place_for_test(caller_.key(i));
    if (place) oracle_.note_home(i, place->generation);
  }
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    if (segments.at(i).sync_failed) oracle_.note_sync_failed(segments.at(i).generation);
  }
  oracle_.note_sealed(first_unsealed, trusts_recovered_ ? 0 : life_begun_, sealed);
  if (prepared != newest_prepared_ && !plan_.collides) {
    newest_prepared_ = prepared;
    if (auto wrong = oracle_.check_durable_homes(on_disk); !wrong.empty()) {
      caller_.violation(wrong);
    }
  }
}

/// Evictions, by name. They are legal in the oldest generation only (L7).
void History::read_events() {
  log_store::LogPath& path = store_.path();
  const auto oldest = path.segments_for_test().oldest();
  const std::uint64_t now_oldest =
      oldest ? path.segments_for_test().at(*oldest).generation : UINT64_MAX;
  const std::uint64_t evicted = path.counters().records_evicted_total.value();
  const EventPage page = path.events().read(events_from_, SIZE_MAX);
  events_from_ = page.next;
  if (page.lost > 0) caller_.violation("the harness lost events");
  coverage_.note(Seen::kEviction, evicted - evicted_);
  for (const EventPage::Event& event : page.events) {
    if (event.kind != EventPage::Kind::kRemoved) continue;
    for (std::size_t i = 0; i < plan_.keys; ++i) {
      const bool is_this = std::ranges::equal(std::as_bytes(std::span{event.key}), caller_.key(i));
      if (!is_this && !event.key.empty()) continue;
      // L7: by the reclaimer only from the oldest generation. Others are removed by a failed Get or
      // by a Delete.
      if (is_this && !plan_.collides && oracle_.home(i) > std::max(oldest_, now_oldest) &&
          oracle_.must_be_there(i, oracle_.now() + 1)) {
        caller_.violation("L7: a record left a segment that is not the oldest; " +
                          oracle_.describe(i));
      }
      caller_.trace("removed key %zu", i);
      oracle_.excuse(i);
    }
  }
  evicted_ = evicted;
  oldest_ = now_oldest;
  const std::uint64_t readmitted = path.counters().records_readmitted_total.value();
  coverage_.note(Seen::kReadmission, readmitted - readmitted_);
  readmitted_ = readmitted;
}

// --- Lives --------------------------------------------------------------------------------------

bool History::try_open() {
  const io::SimulatedCounts before = store_.disk().counts();
  const SetupStatus opened = store_.open();
  const io::SimulatedCounts& after = store_.disk().counts();
  if (after.read_errors != before.read_errors) oracle_.on_tampering();
  if (opened) return true;
  caller_.trace("open failed: %s", opened.error().text.c_str());
  const bool may_fail =
      opened.error().code == ErrorCode::kCancelled ||
      after.read_errors + after.write_errors + after.sync_errors + after.sync_directory_errors +
              after.allocate_errors + after.out_of_space !=
          before.read_errors + before.write_errors + before.sync_errors +
              before.sync_directory_errors + before.allocate_errors + before.out_of_space;
  if (!may_fail) caller_.violation("open: " + opened.error().text);
  return false;
}

void History::open() {
  if (plan_.dies_while_opening) {
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
  trusts_recovered_ = store_.disk().counts().sync_errors == sync_errors_at_cut_;
  if (plan_.opens_with_faults) {
    store_.disk().faults() = plan_.faults;
    store_.disk().faults().stall = 0;
    for (int tries = 0; tries < 3 && !store_.is_open() && !has_failed(); ++tries) try_open();
    store_.disk().faults() = plan_.disk.faults;
  }
  for (int tries = 0; tries < 3 && !store_.is_open() && !has_failed(); ++tries) try_open();
  if (!store_.is_open()) return caller_.violation("the store does not open");

  log_store::LogPath& path = store_.path();
  events_from_ = {};
  evicted_ = readmitted_ = 0;
  newest_prepared_ = 0;
  opened_.clear();
  const auto oldest = path.segments_for_test().oldest();
  oldest_ = oldest ? path.segments_for_test().at(*oldest).generation : UINT64_MAX;
  oracle_.on_open(oldest_);
  // The index was too small for all of it.
  for (std::size_t i = 0; plan_.has_tiny_index && i < plan_.keys; ++i) oracle_.excuse(i);
  life_begun_ = oracle_.tick();
  caller_.trace("open, %llu keys, oldest generation %llx",
                static_cast<unsigned long long>(path.keys()),
                static_cast<unsigned long long>(oldest_));
  if (path.counters().recovered_by_scan.value() > 0) coverage_.note(Seen::kTableLost);
  if (was_clean_ && path.head_for_test() && path.keys() > 0) coverage_.note(Seen::kHeadAdopted);
  if (was_cut_) note_what_a_power_cut_left();
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    if (const auto place = path.place_for_test(caller_.key(i))) {
      oracle_.note_home(i, place->generation);
    }
  }
  if (is_all_durable_ || !trusts_recovered_) oracle_.judge_recovered_homes(is_all_durable_);
  observe();
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

void History::step() {
  const std::uint64_t before_ns = store_.clock().now_ns();
  const std::size_t out_before = caller_.outstanding();
  store_.turn();
  observe();
  if (!store_.is_alive()) return;
  log_store::LogPath& path = store_.path();
  if (caller_.outstanding() > 0 && path.counters().transfers_in_flight.value() == 0 &&
      !path.health().is_down() && path.next_timer_ns() > before_ns) {
    caller_.violation("batches wait, the disk has nothing to do, and nobody will wake the path");
  }
  store_.wait(before_ns + kSecond);
  const bool moved = store_.clock().now_ns() != before_ns || caller_.outstanding() != out_before;
  turns_without_time_ = moved ? 0 : turns_without_time_ + 1;
  if (turns_without_time_ > kTurnsWithoutTimeMax) {
    caller_.violation("the path turns and turns, and nothing happens");
  }
}

void History::squeeze_space() {
  auto other = store_.disk().mount();
  const std::vector<std::string> names = store_.disk().names();
  if (std::ranges::find(names, kBallast) != names.end()) {
    other->remove(kBallast).ignore("the next try");
    return;
  }
  auto file = other->open(kBallast, io::OpenMode::kCreate);
  const auto space = other->space();
  if (file && space) {
    other
        ->allocate(*file, space->free_bytes - std::min(space->free_bytes,
                                                       random_.below(2 * plan_.path.segment_bytes)))
        .ignore("some of it is enough");
  }
}

void History::live(std::uint32_t operations) {
  store_.disk().faults() = plan_.faults;
  if (plan_.dies_inside_calls && random_.one_in(2)) store_.die_after(1 + random_.below(600));
  const std::uint64_t until = caller_.operations() + operations;
  while (caller_.operations() < until && store_.is_alive() && !has_failed()) {
    if (caller_.outstanding() < plan_.outstanding_max) caller_.act();
    if (plan_.squeezes_space && random_.one_in(60)) squeeze_space();
    if (plan_.rots_while_running && random_.one_in(60)) {
      caller_.allow_corruption();
      rot(random_, store_.disk());
    }
    const bool is_full = caller_.outstanding() >= plan_.outstanding_max;
    for (std::uint64_t steps = is_full ? 1 : random_.below(3); steps > 0 && store_.is_alive();
         --steps) {
      step();
    }
  }
}

/// Without faults everything comes back in bounded time, and is what it must be.
void History::drain() {
  store_.disk().faults() = plan_.disk.faults;
  const std::uint64_t until_ns = store_.clock().now_ns() + kDrainWithinNs;
  while (store_.is_alive() && caller_.outstanding() > 0 && !has_failed()) {
    if (store_.clock().now_ns() >= until_ns) {
      return caller_.violation("C1: a batch did not come back");
    }
    step();
  }
}

void History::note_faults() {
  log_store::LogPath& path = store_.path();
  coverage_.note(Seen::kStagedBytes, path.counters().bytes_staged_total.value());
  coverage_.note(Seen::kSegmentGivenBack, path.counters().segments_given_back_total.value());
  coverage_.note(Seen::kStall, path.counters().stalls_total.value());
  if (const auto head = path.head_for_test(); head && uses_[*head] > 1) {
    coverage_.note(Seen::kStaleTableAfterReuse);
  }
}

void History::close() {
  caller_.note_stopping();
  store_.disk().faults() = plan_.disk.faults;
  const std::uint64_t sync_errors = store_.disk().counts().sync_errors;
  const std::uint64_t until_ns = store_.clock().now_ns() + kDrainWithinNs;
  store_.path().begin_stop();
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
  note_faults();
  if (store_.bytes_of_files() > plan_.path.capacity_bytes) {
    caller_.violation("P5: the files are larger than the capacity");
  }
  was_cut_ = was_clean_ = is_all_durable_ = false;
  places_at_cut_.clear();
  if (!store_.is_alive()) ending = Ending::kKill;
  store_.die_after(0);
  switch (ending) {
    case Ending::kCleanClose:
      close();
      break;
    case Ending::kKill:
      caller_.trace("kill");
      coverage_.note(Seen::kKill);
      store_.kill();
      oracle_.on_kill();
      break;
    case Ending::kPowerCut:
      caller_.trace("power cut");
      coverage_.note(Seen::kPowerCut);
      was_cut_ = true;
      for (std::size_t i = 0; i < plan_.keys; ++i) {
        if (const auto place = store_.path().place_for_test(caller_.key(i))) {
          places_at_cut_[i] = *place;
        }
      }
      store_.cut_power();
      oracle_.on_power_cut();
      is_all_durable_ = true;
      sync_errors_at_cut_ = store_.disk().counts().sync_errors;
      break;
  }
  caller_.forget_all();
  store_.disk().faults() = plan_.disk.faults;
  store_.disk().release_stalls();
}

HistoryResult History::run() {
  caller_.before_checks([this] { read_events(); });
  if (plan_.collides) {
    coverage_.note(Seen::kCollidingKeys);
    caller_.allow_corruption();
  }
  if (plan_.faults.sync_error > 0) caller_.allow_corruption();
  for (std::size_t i = 0; i < plan_.endings.size() && !has_failed(); ++i) {
    open();
    if (has_failed()) break;
    caller_.probe_all();
    if (!random_.one_in(3)) {
      caller_.read_all();
      drain();
    }
    const bool is_last = i + 1 == plan_.endings.size();
    live(plan_.operations_per_life);
    // The ring is turned twice in every history.
    const auto segments_begun = [&] {
      std::uint64_t sum = 0;
      for (const auto& [segment, uses] : uses_) sum += uses;
      return sum;
    };
    const std::uint64_t wanted = 2 * (plan_.path.capacity_bytes / plan_.path.segment_bytes);
    while (is_last && store_.is_alive() && !has_failed() && segments_begun() < wanted &&
           caller_.operations() < kOperationsMax) {
      live(20);
    }
    end_life(plan_.endings[i]);
    if (plan_.rots_while_running) oracle_.on_tampering();
    if (has_failed() || is_last) break;
    if (plan_.tampers && random_.one_in(2)) {
      coverage_.note(Seen::kTamperedFiles);
      caller_.trace("tampering");
      tamper(random_, store_.disk());
      caller_.allow_corruption();
      oracle_.on_tampering();
    }
  }
  if (!has_failed()) {  // And once more, to see how the last life ended.
    open();
    if (!has_failed()) {
      caller_.probe_all();
      caller_.read_all();
      drain();
    }
    if (!has_failed()) note_faults();
  }
  store_.kill();
  caller_.forget_all();

  const io::SimulatedCounts& counts = store_.disk().counts();
  coverage_.note(Seen::kFailedSync, counts.sync_errors);
  coverage_.note(Seen::kReadError, counts.read_errors);
  coverage_.note(Seen::kWriteError, counts.write_errors);
  coverage_.note(Seen::kOutOfSpace, counts.out_of_space + counts.allocate_errors);
  const bool all_reused = uses_.size() > 1 && std::ranges::all_of(uses_, [](const auto& use) {
                            return use.second >= 2;
                          });
  if (all_reused) coverage_.note(Seen::kEverySegmentReused);

  HistoryResult result;
  result.failure = caller_.failure();
  if (counts.alignment_errors > 0 && result.failure.empty()) {
    result.failure = "a transfer missed the alignment";
  }
  result.hash = io::mix_history(store_.disk().history_hash(), caller_.hash());
  result.operations = caller_.operations();
  for (const auto& [segment, uses] : uses_) result.segments_begun += uses;
  result.coverage = coverage_;
  return result;
}

}  // namespace

HistoryResult run_history(const HistoryOptions& options) {
  return History{options}.run();
}

}  // namespace larder::simulation
