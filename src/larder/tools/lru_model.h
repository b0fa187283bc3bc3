#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <span>
#include <unordered_map>

namespace larder::tools {

/// An exact LRU cache of equal blocks, simulated: what a trace would have hit in it. A request
/// counts its contiguous prefix that is there, then uses every block of its chain, first to last.
/// O(1) per block, about 100 bytes per block held. One thread at a time.
class LruModel {
 public:
  static constexpr std::uint64_t kUnbounded = std::numeric_limits<std::uint64_t>::max();

  explicit LruModel(std::uint64_t capacity_blocks) : capacity_blocks_(capacity_blocks) {}

  /// Returns how many blocks from the first on were there.
  std::size_t request(std::span<const std::uint64_t> chain);

 private:
  void use(std::uint64_t block);

  const std::uint64_t capacity_blocks_;
  std::list<std::uint64_t> order_;  ///< Least recently used first.
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> places_;
};

}  // namespace larder::tools
