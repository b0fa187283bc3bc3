#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/base/bucket_counts.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/ids.h"
#include "larder/connector/report.h"

namespace larder::cache {

/// Why a chunk that a lookup asked for was no hit (I10). A lookup's first miss gives the reason of
/// all chunks behind it.
enum class Miss : std::uint8_t {
  kNeverStored = 0,
  kEvicted,      ///< It was in L1 lately, and L2 does not have it.
  kFailed,       ///< Its load failed on every connector that has it.
  kLate,         ///< Its load did not end before the deadline.
  kDown,         ///< A connector that may have it did not answer.
  kTrimmed,      ///< It is there, but L1 has no room to lock or load it (E12, E25).
  kOtherLayout,  ///< It is there in another size (E4).
};
inline constexpr std::size_t kMisses = 7;
inline constexpr std::array<const char*, kMisses> kMissNames{
    "never_stored", "evicted", "failed", "late", "down", "trimmed", "other_layout"};

/// Bytes a second, and milliseconds: where their histograms have bounds.
inline constexpr std::array<std::uint64_t, 10> kRateBounds{
    100'000'000,   250'000'000,    500'000'000,    1'000'000'000,  2'500'000'000,
    5'000'000'000, 10'000'000'000, 25'000'000'000, 50'000'000'000, 100'000'000'000};
inline constexpr std::array<std::uint64_t, 13> kAgeBoundsMs{
    1'000,   5'000,   15'000,    30'000,    60'000,    120'000,   300'000,
    600'000, 900'000, 1'800'000, 3'600'000, 7'200'000, 14'400'000};
using RateCounts = BucketCounts<kRateBounds>;
using AgeCounts = BucketCounts<kAgeBoundsMs>;

/// A tier's operations and their results. Batches count when the connector accepts them. Times are
/// those of turns, so a rate is no better than a turn is short.
struct TierTotals {
  std::uint64_t loads = 0;  ///< Batches.
  std::uint64_t loads_ended = 0;
  std::uint64_t load_cells = 0;  ///< In these batches.
  std::uint64_t stores = 0;      ///< Batches.
  std::uint64_t stores_ended = 0;
  std::uint64_t store_cells = 0;
  std::uint64_t cells_stored = 0;      ///< Or found there.
  std::uint64_t store_failed = 0;      ///< E33: given up after three failures.
  std::uint64_t store_lost = 0;        ///< E33: evicted while this tier wanted them.
  std::uint64_t store_over_quota = 0;  ///< E34.
  RateCounts load_rate;                ///< In batches without a failure.
  RateCounts store_rate;
};

/// Lookups of one space, in chunks.
struct LookupTotals {
  std::uint64_t lookups = 0;
  std::uint64_t asked = 0;
  std::uint64_t hit_l1 = 0;
  std::uint64_t hit_l2 = 0;

  LookupTotals& operator+=(const LookupTotals& other) noexcept {
    lookups += other.lookups;
    asked += other.asked;
    hit_l1 += other.hit_l1;
    hit_l2 += other.hit_l2;
    return *this;
  }
};
/// The first so many spaces are counted each on its own, all further ones together.
inline constexpr std::size_t kSpacesCounted = 100;

/// One salt: its quota and its use.
struct SaltStats {
  SaltId salt{};
  Quota quota{};
  std::uint64_t l1_bytes = 0;  ///< Written, loading or resident.
  std::uint64_t columns = 0;   ///< Without those that a worker is still writing.
  std::uint64_t refused = 0;   ///< E22: reservations that got no room for its limit alone.
  std::array<std::uint64_t, kTiersMax> l2_bytes{};  ///< By tier: see Engine::begin_count().
  std::uint64_t l2_refused = 0;                     ///< E34: cells that were not stored.
};
/// The first salts, up to this number, are counted separately in EngineStats, all further ones
/// together.
inline constexpr std::size_t kSaltsCounted = 100;

/// Totals only grow.
struct EngineTotals {
  // Lookups, in chunks: asked = hit_l1 + hit_l2 + the misses.
  std::uint64_t lookups = 0;
  std::uint64_t asked = 0;
  std::uint64_t hit_l1 = 0;
  std::uint64_t hit_l2 = 0;
  std::array<std::uint64_t, kMisses> missed{};
  std::uint64_t lookups_trimmed = 0;  ///< E12, E25.
  std::uint64_t lookups_to_l2 = 0;    ///< Not decided by L1 alone.
  std::vector<LookupTotals> spaces;   ///< By SpaceId; [kSpacesCounted] has all further ones.

  // Sessions.
  std::uint64_t ambiguous_requests = 0;  ///< E6: a request id that two sessions have.
  std::uint64_t second_releases = 0;     ///< E7: shares that were released already.
  std::uint64_t locks_expired = 0;       ///< E9: sessions that lost their locks to time.
  std::uint64_t locks_voided = 0;        ///< E36: shares that clear(force) or a delete ended.

  // Reads and writes by workers, in calls and cells.
  std::uint64_t reads = 0;
  std::uint64_t reads_failed = 0;
  std::uint64_t reads_repeated = 0;
  std::uint64_t chunks_read_failed = 0;  ///< For failed reads, the whole range.
  std::uint64_t cells_read = 0;
  std::uint64_t writes = 0;
  std::uint64_t writes_refused = 0;   ///< E13: nothing fits.
  std::uint64_t writes_cut = 0;       ///< E13: a leading run fits.
  std::uint64_t commits_refused = 0;  ///< E14: false was returned.
  std::uint64_t commits_late = 0;     ///< E14: after the time-out.
  std::uint64_t cells_stored = 0;
  std::uint64_t cells_dropped = 0;   ///< E5, E14: resident already when their write ended.
  std::uint64_t writes_expired = 0;  ///< E16.
  RateCounts read_rate;              ///< From begin_read() to end_read().
  RateCounts write_rate;             ///< From begin_write() to the commit.

  // Room.
  std::uint64_t turns = 0;
  std::uint64_t turns_evicting = 0;  ///< Of these, with evictions in or before them.
  std::uint64_t columns_evicted = 0;
  std::uint64_t cells_evicted = 0;
  std::uint64_t bytes_evicted = 0;
  std::uint64_t allocations_failed = 0;       ///< For cells of any kind.
  std::uint64_t load_allocations_failed = 0;  ///< Of these: for loads.
  std::uint64_t failed_fragmentation = 0;     ///< Of these: E19.
  std::uint64_t failed_quota = 0;             ///< Of these: E22.
  std::uint64_t cells_cleared = 0;
  std::uint64_t pledges_refused = 0;  ///< E41: for want of budget.
  AgeCounts evicted_age;   ///< Age of columns, from their first resident cell to their eviction.
  AgeCounts evicted_idle;  ///< The same from their last use.
  AgeCounts evicted_gap;   ///< Time from a column's eviction to its return, while it is remembered.
  AgeCounts reuse_gap;     ///< Between two uses of a column.

  // L2.
  std::uint64_t exists_keys = 0;
  std::uint64_t probed_keys = 0;
  std::uint64_t cells_loaded = 0;
  std::uint64_t bytes_loaded = 0;
  std::uint64_t cells_load_failed = 0;  ///< One attempt on one connector.
  std::uint64_t cells_load_joined = 0;  ///< E5: waited for another lookup's load.
  std::uint64_t cells_promoted = 0;
  std::uint64_t lookups_queued = 0;       ///< E24.
  std::uint64_t lookups_late = 0;         ///< E28.
  std::uint64_t l2_touches = 0;           ///< E40: cells, once for each tier that heard.
  std::uint64_t columns_not_touched = 0;  ///< E40: dropped, as no batch had room for them.
  std::uint64_t l2_store_submitted = 0;   ///< Cells.
  std::uint64_t l2_store_done = 0;
  std::uint64_t l2_store_failed = 0;      ///< E33: given up after three failures.
  std::uint64_t l2_store_lost = 0;        ///< E33: evicted while wanted.
  std::uint64_t l2_store_over_quota = 0;  ///< E34: the salt's limit in the tier.
  std::vector<TierTotals> tiers;
};

/// The engine's state, and its counts.
struct EngineStats {
  EngineTotals totals;
  // Bytes of the arena: capacity = free + writing + loading + resident + orphan + quarantine.
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t writing_bytes = 0;
  std::uint64_t loading_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t orphan_bytes = 0;
  std::uint64_t quarantine_bytes = 0;
  std::uint64_t locked_bytes = 0;   ///< Of resident.
  std::uint64_t pledged_bytes = 0;  ///< Of resident ones (E41).
  std::uint64_t columns_pledged = 0;
  std::uint64_t columns = 0;
  std::uint64_t cells_wanted = 0;  ///< By some connector (E33).
  std::uint64_t wanted_bytes = 0;  ///< Of these cells.
  std::uint64_t sessions = 0;
  std::uint64_t reads_open = 0;
  std::uint64_t writes_open = 0;
  std::uint64_t owners = 0;
  std::uint64_t lookups_running = 0;  ///< Including those that wait.
  std::uint64_t lookups_waiting = 0;  ///< In the admission queue.
  std::uint64_t l2_batches = 0;       ///< In flight.
  std::uint64_t purges = 0;           ///< Running (E36).
  WhatIf what_if_l1;                  ///< Hit rate of chunks in L1, with other sizes of it.
  WhatIf what_if_l2;  ///< Hit rate of chunks anywhere, with another capacity of the largest tier.
  /// By SaltId. [kSaltsCounted] has all further ones together, without a quota.
  std::vector<SaltStats> salts;
};

}  // namespace larder::cache
