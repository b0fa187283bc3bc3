#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "larder/base/result.h"
#include "larder/tools/block_trace.h"

namespace larder::tools {

/// LRU's hits at every size, from one pass over the trace.
///
/// Model: a cache of equal blocks. A request hits its longest resident prefix, and then touches all
/// its blocks, the deepest first, so that tails leave before heads: a tail whose head is gone is
/// never hit. That is the engine's order. LruModel, which `larder replay` shows, touches the head
/// first, as a replay loads and stores, and hits a little less.
///
/// Method: LRU caches of growing size include each other, so the block at depth d of the recency
/// stack is resident exactly in caches of d blocks or more (Mattson, Gecsei, Slutz, Traiger:
/// "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). A prefix is
/// resident at the sizes at which its deepest block in the stack is. Depths are counted with a
/// Fenwick tree, as Bennett and Kruskal do ("LRU stack processing", IBM Journal of Research and
/// Development 19(4), 1975).
///
/// Hits of the trace's warm-up do not count.
/// Threads: any, once made. Cost: O(log blocks) a reference, below 100 ns; about 30 bytes a block.
class LruCurve {
 public:
  /// kCancelled once `stop` is set.
  static SetupResult<LruCurve> measure(const BlockTrace& trace, const std::atomic<bool>& stop);

  /// Blocks that a cache of this size hits. O(1).
  std::uint64_t hits(std::uint64_t capacity_blocks) const noexcept;
  /// The most hits of any cache: references after the warm-up that are not the first to their
  /// block.
  std::uint64_t hits_max() const noexcept { return hits_.back(); }
  /// The smallest size that hits so many blocks, hits_max() at most. O(log blocks).
  std::uint64_t capacity_for(std::uint64_t hits) const noexcept;

 private:
  explicit LruCurve(std::vector<std::uint64_t> hits) : hits_(std::move(hits)) {}

  std::vector<std::uint64_t> hits_;  ///< By capacity; the last for all larger ones.
};

}  // namespace larder::tools
