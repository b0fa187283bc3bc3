#include "larder/cache/what_if.h"

namespace larder::cache {
void CapacityEstimates::ask(SpaceId space, std::span<const ChunkHash> chunks) noexcept {
  l1_.begin_request();
  l1_.count(chunks.size(), 0);
  if (l2_) {
    l2_->begin_request();
    l2_->count(chunks.size(), 0);
  }
  for (const ChunkHash& chunk : chunks) {
    const std::uint64_t hash = hash_of(space, chunk);
    l1_.ask(hash, false);
    if (l2_) l2_->ask(hash, false);
  }
}

void CapacityEstimates::use_loaded(SpaceId space, const ChunkHash& chunk,
                                   std::uint64_t bytes) noexcept {
  const std::uint64_t hash = hash_of(space, chunk);
  l1_.use(hash, bytes);
  if (l2_) l2_->use_found(hash, bytes);
}

void CapacityEstimates::erase_in_l1(SpaceId space, const ChunkHash& chunk) noexcept {
  l1_.erase(hash_of(space, chunk));
}

void CapacityEstimates::erase_in_l2(SpaceId space, const ChunkHash& chunk) noexcept {
  if (l2_) l2_->erase(hash_of(space, chunk));
}

}  // namespace larder::cache
