#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "larder/cache/ids.h"
#include "larder/connector/hit_rate_sketch.h"

namespace larder::cache {

/// Estimates the hit rate of lookups with other sizes of L1, and of the tiers behind it.
///
/// Keys are columns, with the bytes that L1 has of them. Asks are the chunks of a lookup, when it
/// begins; a chunk is hit behind all before it. A use is one that Uses gets, or a cell that becomes
/// resident: stored by a worker or loaded. So L1's estimate is LRU's, if all loaded cells stay
/// (`--l2-prefetch-policy retain`); that of the tiers is LRU's, too.
/// L2: the tiers hold copies of each other, so that the largest bounds what is found at all. If one
/// has no bound there is no such estimate. Only L1 begins empty: the tiers' earlier content is
/// unknown until it is used once.
/// Threads: the engine's. Cost: two comparisons for a chunk whose column is in no sample; else
/// HitRateSketch's. Memory: two of these.
class CapacityEstimates {
 public:
  /// `l2_bytes`: 0, there is no tier, or some tier has no bound.
  CapacityEstimates(std::uint64_t l1_bytes, std::uint64_t l2_bytes)
      : l1_({.capacity_bytes = l1_bytes}) {
    if (l2_bytes > 0) l2_.emplace(HitRateSketch::Options{.capacity_bytes = l2_bytes});
  }

  void ask(SpaceId space, std::span<const ChunkHash> chunks) noexcept;
  /// Counts chunks of a lookup that were hit, in L1 and at all.
  void count_hits(std::uint64_t in_l1, std::uint64_t hits) noexcept {
    l1_.count(0, in_l1);
    if (l2_) l2_->count(0, hits);
  }
  void use(SpaceId space, const ChunkHash& chunk, std::uint64_t bytes) noexcept {
    const std::uint64_t hash = hash_of(space, chunk);
    l1_.use(hash, bytes);
    if (l2_) l2_->use(hash, bytes);
  }
  /// The same for a column with a cell from a tier.
  void use_loaded(SpaceId space, const ChunkHash& chunk, std::uint64_t bytes) noexcept;
  /// It was removed, not for want of room.
  void erase_in_l1(SpaceId space, const ChunkHash& chunk) noexcept;
  void erase_in_l2(SpaceId space, const ChunkHash& chunk) noexcept;
  void erase_all_in_l2() noexcept {
    if (l2_) l2_->erase_all();
  }

  WhatIf l1() const noexcept { return l1_.estimate(); }
  /// Hit rate of L1 and the tiers together. Empty: see the constructor.
  WhatIf l2() const noexcept { return l2_ ? l2_->estimate() : WhatIf{}; }

 private:
  /// Mixed once more: neighbouring spaces must not be in the sample together.
  static std::uint64_t hash_of(SpaceId space, const ChunkHash& chunk) noexcept {
    std::uint64_t mixed = (chunk.fingerprint() + index_of(space)) * 0xD6E8'FEB8'6659'FD93U;
    mixed ^= mixed >> 32;
    return mixed * 0xD6E8'FEB8'6659'FD93U;
  }

  HitRateSketch l1_;
  std::optional<HitRateSketch> l2_;
};

}  // namespace larder::cache
