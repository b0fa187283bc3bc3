#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/cache_rule.h"
#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetch.h"
#include "larder/cache/sessions.h"
#include "larder/cache/slab.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// The loads of the fetches: batches of one tier each, in prefix order (E26).
///
/// Waiting: any number of fetches may wait for one slot; the one that began the load and those that
///   joined it are equal (E5). A cell that arrives is locked for each of them before anything else
///   can happen to it. A cell that fails on one tier is loaded from the next one that has it (E27),
///   in the same slot; when none is left, the fetches that joined may begin once more (E28).
/// Abandoned loads: no fetch waits for them, and none joins them any more. Their cells become
///   resident and cold.
/// Invariant: a fetch's `waiting` is the number of its cells with `waits_for`, and each of these is
///   once in the list of that slot.
/// Threads: the engine's. Cost: O(1) for a cell, and the key of its name.
class Loading final : public LoadWatch {
 public:
  Loading(EngineState& state, Cells& cells, Sessions& sessions, Tiers& tiers, Slab<Fetch>& fetches);

  /// A cell of the fetch has this slot for its load.
  void load(std::uint32_t fetch, std::uint32_t cell, SlotId slot);
  /// A cell of the fetch waits for a load that runs already.
  void join(std::uint32_t fetch, std::uint32_t cell, SlotId slot);
  /// No fetch waits for the load of this slot, and none may.
  bool is_abandoned(SlotId slot) const noexcept {
    if (is_broken(CacheRule::kLateIsNotJoined)) return false;
    return slot < by_slot_.size() && by_slot_[slot].is_abandoned;
  }
  /// Submits the loads that load() has collected.
  void flush();

  /// A load batch has ended.
  void on_loaded(L2Operation& operation);
  /// The fetch waits for nothing any more. Batches without another waiter are cancelled, its own
  /// and those that it had joined. `keeps`: its own cells are promoted as the policy says when they
  /// arrive.
  void abandon(std::uint32_t fetch, bool keeps);
  /// Tells the fetches which cells have arrived. Call it before anything is evicted.
  void deliver();
  /// A fetch that waits for nothing any more; kNone: there is none.
  std::uint32_t take_ready();
  bool has_arrived() const noexcept { return !arrived_.empty() || !ready_.empty(); }

  void on_load_end(SlotId slot, bool is_resident) noexcept override;
  void check_invariants() const;

 private:
  struct Waiter {
    std::uint64_t fetch = 0;  ///< A handle.
    std::uint32_t cell = 0;
    std::uint32_t next = kNone;
  };
  struct OfSlot {
    std::uint32_t first = kNone;
    std::uint32_t operation = kNone;  ///< That loads it.
    bool is_abandoned = false;
  };
  struct Arrival {
    std::uint64_t fetch = 0;
    std::uint32_t cell = 0;
    bool is_resident = false;
  };

  void wait(std::uint32_t fetch, std::uint32_t cell, SlotId slot);
  void unwait(std::uint32_t fetch, std::uint32_t cell);
  bool has_waiters(L2Operation& operation) const noexcept;
  void collect(std::uint32_t fetch, std::uint32_t cell, SlotId slot);
  void send(TierId tier);
  bool load_from_next(L2Operation& operation, const L2Cell& cell, const Item& item);
  void on_item(L2Operation& operation, const L2Cell& cell, const Item& item);
  void take(Fetch& fetch, std::uint32_t cell);
  bool load_again(std::uint32_t id, Fetch& fetch, std::uint32_t cell);

  EngineState& state_;
  Cells& cells_;
  Sessions& sessions_;
  Tiers& tiers_;
  Slab<Fetch>& fetches_;
  Slab<Waiter> waiters_;
  std::vector<OfSlot> by_slot_;
  std::vector<Arrival> arrived_;
  std::vector<std::uint64_t> ready_;  ///< Handles of fetches.
  std::vector<std::uint32_t> left_;   ///< Scratch: operations that a fetch waits for no more.
  std::array<L2Operation*, kTiersMax> collected_{};
};

}  // namespace larder::cache
