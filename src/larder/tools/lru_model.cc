#include "larder/tools/lru_model.h"

namespace larder::tools {

std::size_t LruModel::request(std::span<const std::uint64_t> chain) {
  std::size_t hits = 0;
  while (hits < chain.size() && places_.contains(chain[hits])) ++hits;
  for (const std::uint64_t block : chain) use(block);
  return hits;
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
