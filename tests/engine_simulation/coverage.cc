#include "tests/engine_simulation/coverage.h"

namespace larder::cache::simulation {
namespace {

constexpr std::array<std::string_view, kSeenCount> kNames = {
    "hit_read",
    "hit_from_l2",
    "hit_behind_begin",
    "wait_answered",
    "wait_timed_out",
    "answered_at_deadline",
    "ambiguous_request",
    "session_of_closed_connection",
    "other_connection",
    "free_during_lookup",
    "end_during_lookup",
    "second_free",
    "lookup_replaced",
    "connection_closed",
    "locks_expired",
    "session_expired",
    "lookup_trimmed",
    "lookup_queued",
    "lookup_passed",
    "load_joined",
    "warm_up",
    "bytes_checked",
    "read_failed",
    "read_repeated",
    "write_published",
    "write_cut",
    "write_refused",
    "write_skipped",
    "second_writer",
    "late_commit",
    "commit_of_ended_owner",
    "commit_after_clear",
    "scribble",
    "ghost_returned",
    "owner_unregistered",
    "owner_reaped",
    "owner_dead",
    "quarantine_limit",
    "value_in_l1",
    "value_from_l2",
    "value_missing",
    "get_cancelled",
    "get_late",
    "eviction",
    "fragmentation",
    "quota_refused",
    "eviction_of_several_turns",
    "load_failed",
    "next_tier",
    "late_completion",
    "tier_down",
    "tier_down_during_load",
    "tier_refused",
    "tier_full",
    "store_done",
    "store_failed",
    "store_lost",
    "store_over_limit",
    "stores_paused",
    "stores_paused_for_errors",
    "commit_in_tier",
    "promoted",
    "filled",
    "touched",
    "log_stored",
    "log_hit",
    "log_evicted",
    "log_reopened",
    "clear",
    "clear_forced",
    "clear_of_space",
    "clear_during_load",
    "remove",
    "quota_set",
    "account_set",
    "clear_all",
    "purge_named",
    "purged",
    "purge_incomplete",
    "purge_late",
    "purge_of_pages",
    "purge_not_scanned",
    "page_too_late",
    "commit_after_remove",
    "trimmed",
    "layout_changed",
    "other_layout_missed",
    "drain_with_loads",
    "drain_cancelled",
    "restart",
    "hit_after_restart",
};

}  // namespace

void Coverage::note(const EngineTotals& totals) noexcept {
  note(Seen::kHitFromL2, totals.hit_l2);
  note(Seen::kLocksExpired, totals.locks_expired);
  note(Seen::kLookupTrimmed, totals.lookups_trimmed);
  note(Seen::kLookupQueued, totals.lookups_queued);
  note(Seen::kAnsweredAtDeadline, totals.lookups_late);
  note(Seen::kLoadJoined, totals.cells_load_joined);
  note(Seen::kReadFailed, totals.reads_failed);
  note(Seen::kReadRepeated, totals.reads_repeated);
  note(Seen::kWriteCut, totals.writes_cut);
  note(Seen::kWriteRefused, totals.writes_refused);
  note(Seen::kLateCommit, totals.commits_late);
  note(Seen::kEviction, totals.columns_evicted);
  note(Seen::kQuotaRefused, totals.failed_quota);
  note(Seen::kLoadFailed, totals.cells_load_failed);
  note(Seen::kStoreDone, totals.l2_store_done);
  note(Seen::kStoreFailed, totals.l2_store_failed);
  note(Seen::kStoreLost, totals.l2_store_lost);
  note(Seen::kStoreOverLimit, totals.l2_store_over_quota);
  note(Seen::kPromoted, totals.cells_promoted);
  note(Seen::kOtherLayoutMissed, totals.missed[static_cast<std::size_t>(Miss::kOtherLayout)]);
  for (std::size_t why = 0; why < kMisses; ++why) missed_[why] += totals.missed[why];
}

void Coverage::add(const Coverage& other) noexcept {
  for (std::size_t i = 0; i < kSeenCount; ++i) counts_[i] += other.counts_[i];
  for (std::size_t i = 0; i < kMisses; ++i) missed_[i] += other.missed_[i];
}

std::string Coverage::to_string() const {
  std::string text;
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    text += std::string{kNames[i]} + ' ' + std::to_string(counts_[i]) + '\n';
  }
  for (std::size_t i = 0; i < kMisses; ++i) {
    text += std::string{"missed_"} + kMissNames[i] + ' ' + std::to_string(missed_[i]) + '\n';
  }
  return text;
}

std::string Coverage::lacks() const {
  std::string text;
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    if (counts_[i] == 0) text += std::string{kNames[i]} + ' ';
  }
  for (std::size_t i = 0; i < kMisses; ++i) {
    if (missed_[i] == 0) text += std::string{"missed_"} + kMissNames[i] + ' ';
  }
  return text;
}

}  // namespace larder::cache::simulation
