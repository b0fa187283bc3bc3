#pragma once

#include <cstdint>

#include "larder/cache/engine_state.h"
#include "larder/cache/recent_set.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// Which loaded cells stay in L1, and which tiers get copies of them (E30 to E32). Lookups and gets
/// both hand over their columns here once the prefix is known.
///
/// It never delays an answer and evicts nothing: the columns that it keeps are in L1 already.
/// Threads: the engine's. Cost: O(1) a column.
class Promotion {
 public:
  Promotion(EngineState& state, Tiers& tiers)
      : state_(state), tiers_(tiers), loaded_(state.options.ghosts_max) {}

  struct Decision {
    bool keep = false;
    TierMask fill = 0;  ///< Tiers that will get a copy of cells from tiers behind them.
  };
  /// Cells of the column were loaded from these tiers, and are part of a hit. Remembers the load.
  Decision decide(SpaceId space, const ChunkHash& chunk, TierMask sources);
  /// Whether decide() would keep cells from this tier.
  bool would_keep(SpaceId space, const ChunkHash& chunk, TierId source) const;

 private:
  bool is_wanted(bool is_second) const noexcept;

  EngineState& state_;
  Tiers& tiers_;
  RecentSet loaded_;  ///< Columns.
};

}  // namespace larder::cache
