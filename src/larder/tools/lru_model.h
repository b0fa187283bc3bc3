#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <span>
#include <unordered_map>

namespace larder::tools {

/// In which order a request uses the blocks of its chain.
enum class LruOrder : std::uint8_t {
  kFirstToLast = 0,  ///< As a replay through a connector, which loads and stores in this order.
  kLastToFirst,      ///< As LruCurve: tails leave before heads.
  /// What was hit, last to first, and then what is stored, last to first: as the engine, which
  /// looks a request up before the request stores anything.
  kHitsThenStores,
};

/// An exact LRU cache of equal blocks, simulated: what a trace would have hit in it. A request
/// counts its contiguous prefix that is there, then uses every block of its chain.
/// O(1) per block, about 100 bytes per block held. One thread at a time.
class LruModel {
 public:
  static constexpr std::uint64_t kUnbounded = std::numeric_limits<std::uint64_t>::max();

  explicit LruModel(std::uint64_t capacity_blocks, LruOrder order = LruOrder::kFirstToLast)
      : capacity_blocks_(capacity_blocks), use_order_(order) {}

  /// Returns how many blocks from the first on were there.
  std::size_t request(std::span<const std::uint64_t> chain);

 private:
  void use(std::uint64_t block);
  void use_stored(std::span<const std::uint64_t> rest);

  const std::uint64_t capacity_blocks_;
  const LruOrder use_order_;
  std::list<std::uint64_t> order_;  ///< Least recently used first.
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> places_;
};

}  // namespace larder::tools
