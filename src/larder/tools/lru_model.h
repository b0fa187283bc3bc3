#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <list>
#include <span>
#include <unordered_map>

namespace larder::tools {

/// The order in which a request uses the blocks of its chain.
enum class LruOrder : std::uint8_t {
  kFirstToLast = 0,  ///< Like a replay through a connector, which loads and stores in this order.
  kLastToFirst,      ///< Like LruCurve: tails leave before heads.
  /// The hits, last to first, and then the stores, last to first: like the engine, which looks a
  /// request up before the request stores anything.
  kHitsThenStores,
};

/// A simulation of an exact LRU cache of equal blocks: the hits that a trace would have had in it.
/// A request counts its contiguous resident prefix, then uses every block of its chain.
/// O(1) per block, about 100 bytes per block held. One thread at a time.
class LruModel {
 public:
  static constexpr std::uint64_t kUnbounded = std::numeric_limits<std::uint64_t>::max();

  explicit LruModel(std::uint64_t capacity_blocks, LruOrder order = LruOrder::kFirstToLast)
      : capacity_blocks_(capacity_blocks), use_order_(order) {}

  /// Returns how many leading blocks were resident.
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
