#include "larder/cache/promotion.h"

#include <bit>

#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

std::uint64_t fingerprint(SpaceId space, const ChunkHash& chunk) noexcept {
  return chunk.fingerprint() + index_of(space);
}

}  // namespace

bool Promotion::is_wanted(bool is_second) const noexcept {
  switch (state_.options.promote) {
    case Promote::kDefault:
      return false;
    case Promote::kRetain:
      return true;
    case Promote::kSecondHit:
      return is_second;
  }
  return false;
}

bool Promotion::would_keep(SpaceId space, const ChunkHash& chunk, TierId source) const {
  return !tiers_.is_memory(source) && is_wanted(loaded_.contains(fingerprint(space, chunk)));
}

Promotion::Decision Promotion::decide(SpaceId space, const ChunkHash& chunk, TierMask sources) {
  Decision decision;
  const bool is_second = !loaded_.insert(fingerprint(space, chunk));
  bool is_from_afar = is_broken(CacheRule::kPromoteNoMemory);
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if ((sources & bit_of(tier)) != 0 && !tiers_.is_memory(tier)) is_from_afar = true;
  }
  decision.keep = is_from_afar && is_wanted(is_second);
  if (!decision.keep || is_broken(CacheRule::kFill)) return decision;
  // The tiers before the nearest source: it is the first that has the cells.
  const auto nearest = static_cast<TierId>(std::countr_zero(sources));
  for (TierId tier = 0; tier < nearest; ++tier) {
    const Fill fill = tiers_.options(tier).fill;
    if (fill == Fill::kAlways || (fill == Fill::kSecondHit && is_second)) {
      decision.fill |= bit_of(tier);
    }
  }
  return decision;
}

}  // namespace larder::cache
