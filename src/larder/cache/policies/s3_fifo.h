#pragma once

#include <cstdint>

#include "larder/cache/policies/ghost_list.h"
#include "larder/cache/policies/queued_policy.h"

namespace larder::cache {

/// S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO Queues are All You Need for Cache Eviction", SOSP
/// 2023), in bytes. New columns enter the small queue. One that leaves it with fewer than two uses
/// meanwhile is evicted and remembered; the others go to the main queue, and so does a column that
/// returns while it is remembered. The main queue gives a column as many more rounds as it was
/// used, three at most. A use moves nothing; it is counted.
///
/// By bytes: the small queue is evicted from while it holds a tenth of the capacity or more. The
///   ghosts are those of the last nine tenths of the capacity in bytes.
/// Capacity 0: the largest sum of bytes that the policy has held.
/// Order: moves to the main queue and further rounds happen when coldest() looks, for each victim
///   that it names. Naming several gives the later ones theirs a little early.
/// Cost of coldest(): the columns that it names and those that it moves. Each move is paid for by a
///   use, so the sum is O(1) a use; one call may move all columns, three times at most.
class S3FifoPolicy final : public QueuedPolicy {
 public:
  explicit S3FifoPolicy(const PolicyOptions& options);

 private:
  static constexpr Queue kSmall = 1;
  static constexpr Queue kMain = 2;
  static constexpr std::uint8_t kUsesMax = 3;

  Queue enter(ColumnId /*column*/, ColumnRecord& record) override;
  Queue use(ColumnId /*column*/, ColumnRecord& record) override;
  void on_evicted(const ColumnRecord& record) override;
  std::size_t choose(std::span<ColumnId> out) override;
  void on_changed() override;

  bool is_small_full(std::uint64_t bytes) const noexcept { return 10 * bytes >= capacity_; }

  std::uint64_t capacity_ = 0;
  const bool is_capacity_known_;
  GhostList ghosts_;
};

}  // namespace larder::cache
