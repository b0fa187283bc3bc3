#include "larder/tools/lru_model.h"

#include <vector>

namespace larder::tools {

std::size_t LruModel::request(std::span<const std::uint64_t> chain) {
  std::size_t hits = 0;
  while (hits < chain.size() && places_.contains(chain[hits])) ++hits;
  switch (use_order_) {
    case LruOrder::kFirstToLast:
      for (const std::uint64_t block : chain) use(block);
      break;
    case LruOrder::kLastToFirst:
      for (std::size_t i = chain.size(); i > 0; --i) use(chain[i - 1]);
      break;
    case LruOrder::kHitsThenStores:
      for (std::size_t i = hits; i > 0; --i) use(chain[i - 1]);
      use_stored(chain.subspan(hits));
      break;
  }
  return hits;
}

/// Blocks after the first absent one are used before room is made for the absent ones, so that they
/// are not their victims.
void LruModel::use_stored(std::span<const std::uint64_t> rest) {
  std::vector<std::uint64_t> absent;  // Last to first.
  for (std::size_t i = rest.size(); i > 0; --i) {
    if (places_.contains(rest[i - 1])) {
      use(rest[i - 1]);
    } else {
      absent.push_back(rest[i - 1]);
    }
  }
  for (const std::uint64_t block : absent) use(block);
}

void LruModel::use(std::uint64_t block) {
  const auto place = places_.find(block);
  if (place != places_.end()) {
    order_.splice(order_.end(), order_, place->second);
    return;
  }
  if (capacity_blocks_ == 0) return;
  if (places_.size() >= capacity_blocks_) {
    places_.erase(order_.front());
    order_.pop_front();
  }
  places_.emplace(block, order_.insert(order_.end(), block));
}

}  // namespace larder::tools
