#pragma once

#include <cstdint>

#include "larder/cache/engine_state.h"
#include "larder/cache/recent_set.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// What of the loaded cells stays in L1, and what tiers get copies of it (E30 to E32). Both paths,
/// lookups and gets, hand their columns here once the prefix is known.
///
/// It never delays an answer and evicts nothing: what it keeps is in L1 already.
/// Threads: the engine's. Cost: O(1) a column.
class Promotion {
 public:
  Promotion(EngineState& state, Tiers& tiers)
      : state_(state), tiers_(tiers), loaded_(state.options.ghosts_max) {}

  struct Decision {
    bool keep = false;
    TierMask fill = 0;  ///< Tiers that are to get a copy of what came from behind them.
  };
  /// Cells of the column were loaded from these tiers, and are part of a hit. Remembers the load.
  Decision decide(SpaceId space, const ChunkHash& chunk, TierMask sources);
  /// Whether decide() would keep what comes from this tier.
  bool would_keep(SpaceId space, const ChunkHash& chunk, TierId source) const;

 private:
  bool is_wanted(bool is_second) const noexcept;

  EngineState& state_;
  Tiers& tiers_;
  RecentSet loaded_;  ///< Columns.
};

}  // namespace larder::cache
