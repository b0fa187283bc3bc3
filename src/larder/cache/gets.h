#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/promotion.h"
#include "larder/cache/slab.h"
#include "larder/cache/stores.h"
#include "larder/cache/tiers.h"
#include "larder/cache/uses.h"

namespace larder::cache {

/// Whole values by their keys: the non-blocking get path (E30, E35). One rank, one group.
///
/// A value in L1 is claimed and its slot is the answer. Another one is loaded from the first tier
/// that has it (E27): through a slot where the promotion would keep it and there is room, else
/// straight into the caller's memory. When all items have ended, the prefix is known, and its
/// loaded cells are promoted as usual.
/// With GetSpec::stays there is no destination: every value goes through a slot and is kept. A get
/// that waits for evictions (E19) waits for the next turn.
/// Deadline: the connectors keep it, because an answer must not come while they may still write to
/// the caller's memory (P4).
/// Threads: the engine's. Cost: O(items), with the item's key and slices as they are.
class Gets {
 public:
  Gets(EngineState& state, Cells& cells, Tiers& tiers, Stores& stores, Uses& uses,
       Promotion& promotion)
      : state_(state),
        cells_(cells),
        tiers_(tiers),
        stores_(stores),
        uses_(uses),
        promotion_(promotion) {}

  void start(Ticket ticket, const GetSpec& spec);
  void end(Ticket ticket);
  /// No further tier is tried, and pending operations of connectors are cancelled.
  void cancel(Ticket ticket);
  /// A batch of a get has ended.
  void on_ended(L2Operation& operation);
  /// Loads items that waited for room, as far as there is some.
  void go_on();
  /// Something waits for the next turn's evictions.
  bool wants_turn() const noexcept { return !later_.empty(); }
  void on_clear(std::optional<SpaceId> space);
  /// From here on only L1 answers.
  void stop_loading() noexcept {
    may_load_ = false;
    is_later_over_ = true;
  }

  std::uint32_t size() const noexcept { return gets_.size(); }
  std::uint64_t claims() const noexcept { return claims_; }

 private:
  struct Part {
    TierMask left = 0;    ///< Tiers that were not tried yet.
    SlotId slot = kNone;  ///< Claimed, or loaded through.
    std::uint8_t source = 0xFF;
  };
  struct Get {
    Ticket ticket{};
    GetSpec spec;
    std::vector<Part> parts;
    std::vector<GetOutcome> outcomes;
    std::uint32_t pending = 0;  ///< Parts that are being loaded.
    bool was_cleared = false;
    bool is_answered = false;
    bool is_cancelled = false;
  };
  /// A part that stays and has no slot yet.
  struct Later {
    std::uint32_t get = 0;
    std::uint32_t number = 0;
    TierId tier = 0;
  };

  void begin_part(std::uint32_t id, std::uint32_t number);
  bool ends_in_l1(Get& get, std::uint32_t number);
  void load(std::uint32_t id, std::uint32_t number);
  void collect(std::uint32_t id, std::uint32_t number, TierId tier);
  Reserved take_slot(const Get& get, std::uint32_t number, TierId tier, SlotId& slot);
  void fail_part(Get& get, std::uint32_t number, const Error& error);
  Error error_of_later(const Get& get) const noexcept;
  void flush();
  void on_item(std::uint32_t id, L2Operation& operation, const L2Cell& cell, const Item& item);
  void claim(Get& get, std::uint32_t number, ColumnId column);
  void finish(std::uint32_t id);
  void promote(const Get& get, std::uint32_t number);
  void forget(std::uint32_t id);

  EngineState& state_;
  Cells& cells_;
  Tiers& tiers_;
  Stores& stores_;
  Uses& uses_;
  Promotion& promotion_;
  Slab<Get> gets_;
  /// Looked up only, never walked.
  std::unordered_map<std::uint64_t, std::uint32_t> by_ticket_;
  std::array<L2Operation*, kTiersMax> collected_{};
  std::vector<Later> later_;
  bool is_later_over_ = false;  ///< Some of it may have been cancelled.
  std::uint64_t claims_ = 0;
  bool may_load_ = true;
};

}  // namespace larder::cache
