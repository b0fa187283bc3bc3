#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "tests/simulation/caller.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/store_under_test.h"

namespace larder::simulation {

/// Looks at the store after each turn: tells the oracle what moved, what was evicted and what is
/// durable by now, and checks the rules that no outcome shows (L7, L10, L11, L12, L13).
///
/// Threads: one. Ownership: everything it is made with outlives it.
class Watch {
 public:
  Watch(const Plan& plan, StoreUnderTest& store, Oracle& oracle, Caller& caller, Coverage& coverage)
      : plan_(plan), store_(store), oracle_(oracle), caller_(caller), coverage_(coverage) {}

  /// `trusts_recovered`: no sync has failed since the last power cut before this life.
  void on_open(bool trusts_recovered);
  void observe();
  /// Evictions, by name. They are legal in the oldest generation only (L7).
  void read_events();
  /// At the end of a life, before its owner is gone.
  void note_counters();

  /// Generations that were appended to, so far.
  std::uint64_t segments_begun() const noexcept { return segments_begun_; }
  /// Segments whose new header is durable, so far.
  std::uint64_t segments_prepared() const noexcept { return segments_prepared_; }
  bool is_every_segment_reused() const;

 private:
  /// How far the log went in one turn.
  struct Step {
    std::uint64_t generation = 0;
    std::uint64_t append_offset = 0;
    std::uint64_t free_before = 0;  ///< Free segments at the end of the turn before.
  };

  void look_at(std::uint32_t number, const log_store::Segment& segment);
  /// Its owner wrote the segment's table, which follows the sync of its records, and nothing of the
  /// file waits for a sync.
  bool was_sealed_for_good(std::uint32_t number) const;
  void look_at_keys();
  void check_move(std::size_t key, const log_store::Place& to);
  void note_removed(std::uint32_t number, const log_store::Segment& segment);
  std::vector<std::uint64_t> removed() const;
  void check_health();
  std::uint64_t count_faults() const;
  bool has_stale_table(std::uint32_t number) const;
  std::optional<log_store::TableTrailer> trailer_of(std::uint32_t number,
                                                    std::uint64_t generation) const;

  const Plan& plan_;
  StoreUnderTest& store_;
  Oracle& oracle_;
  Caller& caller_;
  Coverage& coverage_;

  // Of this life.
  bool trusts_recovered_ = true;
  std::uint64_t life_begun_ = 0;  ///< Step.
  EventCursor events_from_;
  std::uint64_t evicted_ = 0;
  std::uint64_t readmitted_ = 0;
  std::uint64_t sync_failures_ = 0;
  std::uint64_t oldest_ = 0;
  std::set<std::uint64_t> outranking_;  ///< Generations that outrank older ones, one turn ago.
  std::uint64_t newest_prepared_ = 0;
  std::vector<std::uint64_t> removed_before_;
  std::uint64_t free_ = 0;
  std::uint64_t looked_at_ = 0;              ///< Step.
  std::set<std::uint64_t> opened_;           ///< Generations that were appended to.
  std::set<std::uint64_t> found_sealed_;     ///< Generations that were sealed for good before.
  std::set<std::uint64_t> unsealed_before_;  ///< Those that were open or being sealed a turn ago.
  std::deque<Step> steps_;
  std::map<std::uint64_t, std::uint64_t> ends_;  ///< How far each generation was appended to.
  std::vector<std::optional<log_store::Place>> places_;  ///< Of the keys, one turn ago.
  std::set<std::uint64_t> reclaiming_;                   ///< Generations, one turn ago.
  std::vector<bool> mirror_;                             ///< Which keys are there, by the events.
  std::set<std::uint32_t> needed_repair_;
  std::uint64_t faults_at_open_ = 0;
  bool was_down_ = false;
  std::map<std::uint32_t, log_store::SegmentState> states_;
  std::map<std::uint32_t, std::uint64_t> moved_bytes_;  ///< When its reclaim began.

  // Of all lives.
  struct InFile {
    std::uint64_t generation = 0;  ///< 0: it was made, and nothing was written.
    std::uint64_t before = 0;      ///< Of the segment when the file was made, so not in it.
  };
  std::map<std::uint32_t, InFile> in_file_;         ///< What each file that is there holds.
  std::map<std::uint32_t, std::uint64_t> removed_;  ///< Of the last one that is not there any more.
  std::uint64_t segments_begun_ = 0;
  std::uint64_t segments_prepared_ = 0;
  std::map<std::uint32_t, std::uint64_t> uses_;
  std::map<std::uint32_t, std::uint64_t> sealed_as_;  ///< Each segment's last sealed generation.
};

}  // namespace larder::simulation
