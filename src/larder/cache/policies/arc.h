#pragma once

#include <cstdint>

#include "larder/cache/policies/ghost_list.h"
#include "larder/cache/policies/queued_policy.h"

namespace larder::cache {

/// ARC (Megiddo and Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003), in
/// bytes. T1 holds columns that were used once, T2 those used again, both in order of their last
/// use. B1 and B2 remember columns evicted from them. A miss that B1 remembers makes the target
/// size of T1 larger, one that B2 remembers makes it smaller.
///
/// By bytes: all sizes are sums of bytes. Where the paper moves the target by one page, or by |B2|
///   / |B1| pages, it moves by as many of the column's bytes. |T1| + |B1| <= c, and all four
///   together <= 2c, by dropping the oldest ghosts.
/// Order of calls: the engine evicts before it inserts, so the miss that adapts the target does so
///   for the next eviction, and the paper's tie rule (evict from T1 at |T1| = p if B2 remembers the
///   page that comes) has no place.
/// Capacity 0: c is the largest sum of bytes that the policy has held.
/// Cost of coldest(): the columns that it names.
class ArcPolicy final : public QueuedPolicy {
 public:
  explicit ArcPolicy(const PolicyOptions& options);

  /// The paper's p: the target size of T1.
  std::uint64_t target_bytes() const noexcept { return target_; }

 private:
  static constexpr Queue kOnce = 1;   ///< T1
  static constexpr Queue kAgain = 2;  ///< T2

  Queue enter(ColumnId /*column*/, ColumnRecord& record) override;
  Queue use(ColumnId /*column*/, ColumnRecord& /*record*/) override { return kAgain; }
  void on_evicted(const ColumnRecord& record) override;
  std::size_t choose(std::span<ColumnId> out) override;
  void on_changed() override;

  std::uint64_t capacity_ = 0;
  const bool is_capacity_known_;
  std::uint64_t target_ = 0;
  GhostList once_ghosts_;   ///< B1
  GhostList again_ghosts_;  ///< B2
};

}  // namespace larder::cache
