#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/cache_rule.h"
#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/stores.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// The consequences of a column's use in L1: its position in the policy (E20), the wants of tiers
/// with `min_hits` (E34), and touches for the tiers (E40).
///
/// Touches: a tier sees no read that L1 serves, so its own eviction would take the hottest columns
///   first. It gets a used column once in each `touch_interval_ns`; a column that became resident
///   in the interval has just been stored to it or loaded from it.
/// Bounds: one batch of `exists_keys_max` keys is with each tier, and the next ones are made when
///   all have ended. Columns beyond that are dropped and counted; a later use touches them.
/// Threads: the engine's. Cost: O(1) for a use, and the key of each cell of a batch.
class Uses {
 public:
  Uses(EngineState& state, Cells& cells, Tiers& tiers, Stores& stores);

  /// A lookup or a get has hit the column.
  void hit(ColumnId column) {
    ++cells_.columns()[column].hits;
    use(column);
    stores_.on_hit(column);
  }
  /// The columns of these chunks that are there, from the last one to the first. No hit.
  void use(SpaceId space, std::span<const ChunkHash> chunks);
  /// Tells the tiers which columns were used since the last call.
  void submit();
  /// A touch batch has ended.
  void on_ended() noexcept { --in_flight_; }
  /// Sends no touches from here on.
  void stop() noexcept;

 private:
  void use(ColumnId column) {
    cells_.touch(column);
    cells_.note_use(column);
    if (tiers_told_ == 0 || was_told(cells_.columns()[column])) return;
    untold_.push_back(cells_.columns().ref(column));
  }
  bool was_told(const Column& column) const noexcept {
    return column.told == state_.touch_interval && !is_broken(CacheRule::kTouchOnce);
  }
  void collect();
  void send(TierId tier);

  EngineState& state_;
  Cells& cells_;
  Tiers& tiers_;
  Stores& stores_;
  TierMask tiers_told_ = 0;
  std::uint32_t in_flight_ = 0;     ///< Batches.
  std::vector<ColumnRef> untold_;   ///< Used since the last submit(), the head of a prefix last.
  std::vector<ColumnId> to_touch_;  ///< Scratch.
};

}  // namespace larder::cache
