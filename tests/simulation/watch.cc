#include "tests/simulation/watch.h"

#include <algorithm>
#include <array>
#include <string>

#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/format.h"

namespace larder::simulation {
namespace {

using log_store::Place;
using log_store::Segment;
using log_store::SegmentState;

constexpr std::size_t kStepsKept = 256;
constexpr std::uint64_t kGrain = log_store::kGrainBytesMin;
constexpr std::array kStateNames = {"absent",  "free",   "preparing",  "ready",    "open",
                                    "sealing", "sealed", "reclaiming", "removing", "failed"};

}  // namespace

bool Watch::was_sealed_for_good(std::uint32_t number) const {
  const std::string name = log_store::segment_file_name(number);
  const std::uint64_t generation = store_.path().segments_for_test().at(number).generation;
  const std::uint64_t bytes = store_.disk().file_bytes(name);
  if (bytes < store_.path().segments_for_test().geometry().segment_bytes) return false;
  const auto table = trailer_of(number, generation);
  return table && table->kind == log_store::TableKind::kSealed &&
         table->open_count == generation >> 32U &&
         store_.disk().read_image(name, 0, bytes) ==
             store_.disk().read_durable_image(name, 0, bytes);
}

void Watch::on_open(bool trusts_recovered) {
  const log_store::LogPath& path = store_.path();
  const log_store::Segments& segments = path.segments_for_test();
  removed_before_.clear();
  // What was being moved when the last owner ended may be in two places.
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (places_[i] && reclaiming_.contains(places_[i]->generation)) oracle_.forget_homes(i);
  }
  trusts_recovered_ = trusts_recovered;
  events_from_ = {};
  evicted_ = readmitted_ = sync_failures_ = newest_prepared_ = 0;
  opened_.clear();
  found_sealed_.clear();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    if (segment.has_file && was_sealed_for_good(i)) found_sealed_.insert(segment.generation);
  }
  unsealed_before_.clear();
  outranking_.clear();
  steps_.clear();
  ends_.clear();
  states_.clear();
  reclaiming_.clear();
  moved_bytes_.clear();
  places_.assign(plan_.keys, std::nullopt);
  needed_repair_.clear();
  was_down_ = false;
  faults_at_open_ = count_faults();
  mirror_.clear();
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    mirror_.push_back(path.place_for_test(caller_.key(i)).has_value());
  }
  free_ = path.counters().segments_free.value();
  const auto oldest = segments.oldest();
  oldest_ = oldest ? segments.at(*oldest).generation : UINT64_MAX;
  oracle_.on_open(oldest_);
  life_begun_ = looked_at_ = oracle_.tick();

  // L12: two are free, were it by eviction. One of them may be on its way to be the next head.
  std::uint32_t free = segments.free_count() + segments.absent_count();
  bool has_failed = false;
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const SegmentState state = segments.at(i).state();
    has_failed = has_failed || state == SegmentState::kFailed || segments.at(i).needs_repair;
    if (state == SegmentState::kPreparing || state == SegmentState::kReady ||
        state == SegmentState::kRemoving) {
      ++free;
    }
  }
  const bool is_frozen = path.is_frozen_for_test();
  if (is_frozen) coverage_.note(Seen::kFrozen);
  if (free < 2 && !has_failed && !is_frozen)
    caller_.violation("L12: fewer than two segments are free after open");
}

void Watch::observe() {
  if (!store_.is_alive()) return;
  caller_.check_queues();
  const log_store::LogPath& path = store_.path();
  if (path.health().is_down()) {
    caller_.note_path_is_down();
    coverage_.note(Seen::kPathDown);
    // A path that is down misses everything: only what a disk did may take it there.
    if (!was_down_ && count_faults() == faults_at_open_) {
      caller_.violation("the path is down, and nothing happened to its disk");
    }
    was_down_ = true;
  }
  const log_store::Segments& segments = path.segments_for_test();
  std::uint64_t first_unsealed = UINT64_MAX;
  std::uint64_t newest = 0;
  std::uint64_t prepared = 0;
  std::vector<std::uint64_t> on_disk;
  std::vector<std::uint64_t> sealed;
  std::set<std::uint64_t> unsealed;
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    look_at(i, segment);
    note_removed(i, segment);
    prepared = std::max(prepared, segment.generation);
    const bool is_open =
        segment.state() == SegmentState::kOpen || segment.state() == SegmentState::kSealing;
    const bool is_sealed =
        segment.state() == SegmentState::kSealed || segment.state() == SegmentState::kReclaiming;
    if (is_open || is_sealed) newest = std::max(newest, segment.generation);
    if (is_open && opened_.insert(segment.generation).second) {
      ++segments_begun_;
      ++uses_[i];
    }
    if (is_open) unsealed.insert(segment.generation);
    if (is_sealed) unsealed_before_.erase(segment.generation);
    if (is_open || (is_sealed && segment.sync_failed)) {
      first_unsealed = std::min(first_unsealed, segment.generation);
    } else if (is_sealed && (trusts_recovered_ || opened_.contains(segment.generation) ||
                             found_sealed_.contains(segment.generation))) {
      sealed.push_back(segment.generation);
    }
    if (segment.has_file && segment.generation != 0 &&
        segment.state() != SegmentState::kPreparing && segment.state() != SegmentState::kReady &&
        segment.state() != SegmentState::kFailed) {
      on_disk.push_back(segment.generation);
    }
  }
  caller_.set_newest_generation(newest);
  read_events();
  look_at_keys();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    if (segments.at(i).sync_failed) oracle_.note_sync_failed(segments.at(i).generation);
  }
  // Sealed and used again in one turn: nobody saw whether a sync failed.
  for (const std::uint64_t generation : unsealed_before_) {
    if (!unsealed.contains(generation)) oracle_.note_sync_failed(generation);
  }
  unsealed_before_ = std::move(unsealed);
  oracle_.note_sealed(first_unsealed, trusts_recovered_ ? 0 : life_begun_, sealed);
  // Whenever something that was on the disk may have gone.
  auto removed_now = removed();
  if (std::exchange(newest_prepared_, prepared) != prepared || removed_now != removed_before_) {
    removed_before_ = std::move(removed_now);
    if (auto wrong = oracle_.check_durable_homes(on_disk); !wrong.empty()) {
      caller_.violation(wrong);
    }
    if (auto wrong = oracle_.check_may_come_back(on_disk, removed_before_); !wrong.empty()) {
      caller_.violation(wrong);
    }
  }
  check_health();
  free_ = path.counters().segments_free.value();
  looked_at_ = oracle_.now();
}

// --- Segments -----------------------------------------------------------------------------------

void Watch::look_at(std::uint32_t number, const Segment& segment) {
  const auto [last, is_new] = states_.try_emplace(number, segment.state());
  const SegmentState before = std::exchange(last->second, segment.state());
  if (is_new || before != segment.state()) {
    caller_.trace("segment %u, generation %llx: %s%s", number,
                  static_cast<unsigned long long>(segment.generation),
                  kStateNames[static_cast<std::size_t>(segment.state())],
                  segment.sync_failed        ? ", a sync failed"
                  : segment.table != nullptr ? ", table in memory"
                                             : "");
  }
  if (before == SegmentState::kRemoving && segment.state() == SegmentState::kFailed) {
    caller_.violation("L9: a file that could not be removed is left as it is");
  }
  if (segment.needs_repair) {
    needed_repair_.insert(number);
    if (segment.state() == SegmentState::kFree || segment.state() == SegmentState::kReady) {
      caller_.violation("L9: a segment that cannot be overwritten is used again");
    }
  } else if (needed_repair_.erase(number) > 0) {
    coverage_.note(Seen::kSegmentRepaired);
  }
  if (segment.state() == SegmentState::kReady && (is_new || before != segment.state())) {
    ++segments_prepared_;
  }
  const std::uint64_t moved = store_.path().counters().bytes_readmitted_total.value();
  if (segment.state() == SegmentState::kReclaiming) {
    if (segment.pins() > 0) coverage_.note(Seen::kReadPinnedAcrossReclaim);
    const auto begun = moved_bytes_.try_emplace(number, moved).first;
    if (moved - begun->second > store_.path().segments_for_test().geometry().segment_bytes / 2) {
      caller_.violation("L10: more than half a segment was moved in one reclaim");
    }
  } else {
    moved_bytes_.erase(number);
  }
  if (before != SegmentState::kSealing || segment.state() != SegmentState::kSealed) return;
  if (segment.sync_failed || segment.table != nullptr) return;
  sealed_as_[number] = segment.generation;
  // L11: its table is on the disk for good.
  if (store_.disk().counts().sync_errors > 0) return;
  const std::string name = log_store::segment_file_name(number);
  const std::uint64_t trailer_at = store_.disk().file_bytes(name) - kGrain;
  if (store_.disk().read_image(name, trailer_at, kGrain) !=
      store_.disk().read_durable_image(name, trailer_at, kGrain)) {
    caller_.violation("L11: " + name + " is sealed, and its table is not durable");
  }
}

bool Watch::is_every_segment_reused() const {
  return uses_.size() >= store_.path().segments_for_test().files_max() &&
         std::ranges::all_of(uses_, [](const auto& use) { return use.second >= 2; });
}

/// A table of an earlier use stands at the end of a segment that has none of its own.
bool Watch::has_stale_table(std::uint32_t number) const {
  const auto sealed_as = sealed_as_.find(number);
  if (sealed_as == sealed_as_.end() ||
      sealed_as->second == store_.path().segments_for_test().at(number).generation) {
    return false;
  }
  return trailer_of(number, sealed_as->second).has_value();
}

/// Of the table that stands at the end of the segment's file, if it is this generation's.
std::optional<log_store::TableTrailer> Watch::trailer_of(std::uint32_t number,
                                                         std::uint64_t generation) const {
  const log_store::LogPath& path = store_.path();
  const log_store::Geometry& geometry = path.segments_for_test().geometry();
  const auto image = store_.disk().read_image(log_store::segment_file_name(number),
                                              geometry.segment_bytes - kGrain, kGrain);
  const log_store::Identity identity{
      .path_id = path.superblock().path_id, .segment = number, .generation = generation};
  const auto trailer = log_store::decode_table_trailer(
      image, identity, geometry.segment_bytes, geometry.grain_bytes, path.superblock().secret);
  return trailer ? std::optional{*trailer} : std::nullopt;
}

/// What a disk can do that takes a path down. A lack of space is not among it.
std::uint64_t Watch::count_faults() const {
  const io::SimulatedCounts& counts = store_.disk().counts();
  return counts.read_errors + counts.write_errors + counts.sync_errors + counts.stalls;
}

void Watch::note_counters() {
  const log_store::LogPath& path = store_.path();
  coverage_.note(Seen::kStagedBytes, path.counters().bytes_staged_total.value());
  coverage_.note(Seen::kSegmentGivenBack, path.counters().segments_given_back_total.value());
  coverage_.note(Seen::kNoSpaceToOverwrite, path.counters().no_space_total.value());
  coverage_.note(Seen::kStall, path.counters().stalls_total.value());
  if (const auto head = path.head_for_test(); head && has_stale_table(*head)) {
    coverage_.note(Seen::kStaleTableAfterReuse);
  }
}

// --- Keys ---------------------------------------------------------------------------------------

void Watch::look_at_keys() {
  const log_store::LogPath& path = store_.path();
  const log_store::Segments& segments = path.segments_for_test();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    if (!opened_.contains(segment.generation)) continue;
    std::uint64_t& end = ends_[segment.generation];
    if (std::exchange(end, segment.append_offset) == segment.append_offset) continue;
    steps_.push_back({segment.generation, segment.append_offset, free_});
    if (steps_.size() > kStepsKept) steps_.pop_front();
  }
  for (std::size_t i = 0; i < plan_.keys; ++i) {
    const auto place = path.place_for_test(caller_.key(i));
    if (!caller_.is_shared(i) && place.has_value() != mirror_[i]) {
      caller_.violation(std::string{"the events say that a key is "} +
                        (mirror_[i] ? "there, and it is not; " : "gone, and it is there; ") +
                        oracle_.describe(i));
    }
    if (place) oracle_.note_home(i, place->generation);
    const auto before = std::exchange(places_[i], place);
    if (!before || !reclaiming_.contains(before->generation) || caller_.is_shared(i)) continue;
    if (oracle_.was_written_since(i, looked_at_)) {
      oracle_.forget_homes(i);
    } else if (place && *place != *before) {
      oracle_.note_moved(i, place->generation);
      check_move(i, *place);
    }
  }
  reclaiming_.clear();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    if (segments.at(i).state() == SegmentState::kReclaiming) {
      reclaiming_.insert(segments.at(i).generation);
    }
  }
}

/// L10: nothing is moved while fewer than two segments are free. Space that comes and goes makes
/// segments free or not in the middle of a turn.
void Watch::check_move(std::size_t key, const Place& to) {
  if (plan_.squeezes_space) return;
  const auto step = std::ranges::find_if(steps_, [&to](const Step& one) {
    return one.generation == to.generation && one.append_offset > to.offset;
  });
  if (step == steps_.end() || step->free_before >= 2) return;
  caller_.violation("L10: a record was moved while fewer than two segments were free; " +
                    oracle_.describe(key));
}

/// A file that was removed may be back after a power cut until its directory is synced. One that
/// was made since holds nothing of the generation that its number had before.
void Watch::note_removed(std::uint32_t number, const Segment& segment) {
  const auto known = in_file_.find(number);
  if (!segment.has_file) {
    if (known == in_file_.end()) return;
    removed_[number] = known->second.generation;
    in_file_.erase(known);
    return;
  }
  // While preparing, the old generation may still be there.
  const bool is_new =
      segment.state() == SegmentState::kFree || segment.state() == SegmentState::kPreparing;
  if (known == in_file_.end()) {
    in_file_[number] = {.generation = is_new ? 0 : segment.generation,
                        .before = is_new ? segment.generation : 0};
  } else if (segment.generation != known->second.before &&
             segment.state() != SegmentState::kPreparing) {
    known->second.generation = segment.generation;
  }
}

std::vector<std::uint64_t> Watch::removed() const {
  std::vector<std::uint64_t> generations;
  for (const std::string& name : store_.disk().removed_names()) {
    const auto number = log_store::segment_of_file_name(name);
    const auto generation = number ? removed_.find(*number) : removed_.end();
    if (generation != removed_.end()) generations.push_back(generation->second);
  }
  return generations;
}

void Watch::read_events() {
  const log_store::LogPath& path = store_.path();
  const auto oldest = path.segments_for_test().oldest();
  const std::uint64_t now_oldest =
      oldest ? path.segments_for_test().at(*oldest).generation : UINT64_MAX;
  const std::uint64_t evicted = path.counters().records_evicted_total.value();
  const EventPage page = path.events().read(events_from_, SIZE_MAX);
  events_from_ = page.next;
  // Keys that nobody knows, as no table of their segment could be read.
  for (std::size_t i = 0; page.lost > 0 && i < plan_.keys; ++i) {
    oracle_.excuse(i);
    mirror_[i] = path.place_for_test(caller_.key(i)).has_value();
  }
  coverage_.note(Seen::kEviction, evicted - evicted_);
  for (const EventPage::Event& event : page.events) {
    for (std::size_t i = 0; i < plan_.keys; ++i) {
      const bool is_this = std::ranges::equal(std::as_bytes(std::span{event.key}), caller_.key(i));
      if (!is_this) continue;
      mirror_[i] = event.kind == EventPage::Kind::kStored;
      if (event.kind != EventPage::Kind::kRemoved) continue;
      // L7: by the reclaimer only from the oldest generation, or from one that outranks nothing.
      // Others are removed by a failed Get or by a Delete.
      if (oracle_.home(i) > std::max(oldest_, now_oldest) &&
          oracle_.must_be_there(i, oracle_.now() + 1)) {
        coverage_.note(Seen::kLeftEarly);
        if (outranking_.contains(oracle_.home(i))) {
          caller_.violation("L7: a record left a segment that outranks older ones; " +
                            oracle_.describe(i));
        }
      }
      caller_.trace("removed key %zu", i);
      oracle_.excuse(i);
    }
  }
  evicted_ = evicted;
  oldest_ = now_oldest;
  const std::set<std::uint64_t> outranked_before = std::exchange(outranking_, {});
  const log_store::Segments& segments = path.segments_for_test();
  for (std::uint32_t i = 0; i < segments.count(); ++i) {
    const Segment& segment = segments.at(i);
    // What counts is how it was when its reclaim began: a load that fails meanwhile adds a
    // tombstone for a record that outranked nothing.
    const bool outranks = segment.state() == SegmentState::kReclaiming
                              ? outranked_before.contains(segment.generation)
                              : segment.tombstones + segment.outranks > 0;
    if (outranks) outranking_.insert(segment.generation);
  }
  const std::uint64_t readmitted = path.counters().records_readmitted_total.value();
  coverage_.note(Seen::kReadmission, readmitted - readmitted_);
  readmitted_ = readmitted;
}

/// L13: a failed sync shows.
void Watch::check_health() {
  const log_store::LogPath& path = store_.path();
  const std::uint64_t failures = path.counters().sync_failures_total.value();
  if (failures > sync_failures_ && path.health().health() == Health::kHealthy) {
    caller_.violation("L13: a sync has failed, and the path says that it is healthy");
  }
  sync_failures_ = failures;
}

}  // namespace larder::simulation
