#pragma once

#include <cstdint>
#include <deque>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/tiers.h"
#include "larder/cache/writes.h"

namespace larder::cache {

/// Store control: which columns of L1 go to L2, and when (E33, E34).
///
/// Wants: a resident cell carries the tiers that are still to get it. Each tier has a list of the
///   cells that it wants, in the order of their commits, heads before tails; only cells in a batch
///   are pinned. So a slow tier neither holds up a worker nor locks L1: cells that it is too slow
///   for are evicted and counted (`l2_store_lost`).
/// Ends: stored or there already ends a tier's want; the third failure of a cell ends it, too. A
///   tier that is down keeps its wants. The engine retries a tier that is down, or that failed a
///   whole batch, after `tier_retry_ns`.
/// Lists hold references to cells: a cell that has gone is skipped when its turn comes, and a list
///   that mostly refers to such cells is swept.
/// Threads: the engine's. Cost: O(1) a cell.
class Stores final : public StoreWatch {
 public:
  Stores(EngineState& state, Cells& cells, Tiers& tiers);

  /// A worker has stored the cell.
  void on_stored(ColumnId column, Row row) override;
  /// A lookup has used the column: tiers with `min_hits` may want it now.
  void on_hit(ColumnId column);
  /// These tiers are to get the cell.
  void want(ColumnId column, Row row, TierMask tiers);
  /// Submits as much as the tiers have room for.
  void submit();
  /// A store batch has ended.
  void on_ended(L2Operation& operation);
  void on_timer(TierId tier);
  /// Nothing is wanted by a tier that answers.
  bool is_idle() const noexcept;

  void check_invariants() const;

 private:
  static constexpr std::uint8_t kFailuresMax = 3;

  struct Place {
    ColumnRef column;
    Row row = 0;
    std::uint64_t bytes = 0;
  };
  struct Lane {
    std::deque<Place> wanted;
    std::uint64_t bytes = 0;  ///< Of `wanted`, including cells that have gone meanwhile.
    bool is_paused = false;   ///< After a failure: until `retry`.
    bool is_down = false;     ///< Paused, because it took nothing.
    Timer retry;
  };

  bool is_wanted(const Place& place, TierId tier) const noexcept;
  Place place_of(ColumnId column, Row row) const noexcept;
  void append(Lane& lane, const Place& place);
  void drop_first(Lane& lane) noexcept;
  bool is_over_quota(TierId tier, SaltId salt, std::uint64_t bytes) const noexcept;
  bool should_gather(TierId tier) const noexcept;
  L2Operation* collect(TierId tier);
  void submit(TierId tier);
  void end_want(ColumnId column, Row row, TierId tier) noexcept;
  void sweep(Lane& lane, TierId tier);

  EngineState& state_;
  Cells& cells_;
  Tiers& tiers_;
  std::deque<Lane> lanes_;  ///< By TierId; timers do not move.
};

}  // namespace larder::cache
