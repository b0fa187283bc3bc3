#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/block_trace.h"

namespace larder::tools {

/// The hits of the best cache of a size, with the whole future known: no policy has more.
///
/// Model: as LruCurve's. After each request the cache keeps, of its content and the request's
/// blocks, the `capacity` blocks with the nearest next use. Of blocks with the same next request
/// the deeper one goes first. A block without a further use is not kept at all.
/// Why that is the optimum: it is Belady's MIN ("A study of replacement algorithms for a
/// virtual-storage computer", IBM Systems Journal 5(2), 1966), the optimum for single blocks. In a
/// prefix-consistent trace a block is used in every request that uses a block after it, so it is
/// never dropped before that one: MIN always keeps whole prefixes, and its hits are prefix hits. In
/// any other trace hits() counts blocks after holes too: an upper bound.
/// Warm-up: the choice is the best one for the whole trace. After a warm-up, whose hits do not
/// count, another choice could hit more.
/// Threads: any, once made. The trace must outlive it. Memory: 4 bytes a reference.
class PrefixOptimum {
 public:
  explicit PrefixOptimum(const BlockTrace& trace);

  /// Blocks that are hit at this size. kCancelled once `stop` is set. Cost: O(log references) a
  /// reference, below 100 ns; up to 4 bytes a reference.
  SetupResult<std::uint64_t> hits(std::uint64_t capacity_blocks,
                                  const std::atomic<bool>& stop) const;

 private:
  const BlockTrace* trace_;
  std::vector<std::uint32_t> next_use_;  ///< By reference: that of the block's next request.
};

}  // namespace larder::tools
