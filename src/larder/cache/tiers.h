#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "larder/cache/engine_options.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/l2_operations.h"
#include "larder/cache/slab.h"
#include "larder/cache/tier_accounts.h"
#include "larder/connector/connector.h"

namespace larder::cache {

/// Says which keys of a tier must be left alone while something is deleted there (E36).
class PurgeGate {
 public:
  virtual ~PurgeGate() = default;
  /// The tier's copy of the chunk is about to go: it is not found and not loaded.
  virtual bool hides(TierId tier, SpaceId space, const ChunkHash& chunk) const noexcept = 0;
  /// Nothing is stored to the tier: it would meet the deletion.
  virtual bool holds_stores(TierId tier) const noexcept = 0;
};

/// The connectors behind L1 and the operations that are with them.
///
/// Bounds: loads wait here, first in, first out, above a tier's `load_bytes_max` (E26), and when a
/// connector refuses them for want of room. Stores and touches are not queued: a source keeps its
///   stores, and a refused touch has ended.
/// Ends: an operation comes out of take_ended() exactly once, with an outcome for every item:
///   finished, refused, or cancelled while it was queued.
/// Ownership: the connectors, and every operation from make() to release().
/// Threads: the engine's. Cost: O(1) and the connector's own.
class Tiers {
 public:
  Tiers(EngineState& state, std::vector<Tier> tiers, const KeyNames& names, Arena& arena);

  std::size_t size() const noexcept { return tiers_.size(); }
  const TierOptions& options(TierId tier) const noexcept { return tiers_[tier].options; }
  /// The tiers that may be loaded from, and stored to.
  TierMask loads() const noexcept { return loads_; }
  TierMask stores() const noexcept { return stores_; }
  /// E30: a copy in L1 of a value that is in memory already is no gain.
  bool is_memory(TierId tier) const noexcept;

  TierAccounts& accounts() noexcept { return accounts_; }
  const TierAccounts& accounts() const noexcept { return accounts_; }

  /// Null: nothing is purged, and no check is needed.
  void set_gate(const PurgeGate* gate) noexcept { gate_ = gate; }
  bool hides(TierId tier, SpaceId space, const ChunkHash& chunk) const noexcept {
    return gate_ != nullptr && gate_->hides(tier, space, chunk);
  }
  bool holds_stores(TierId tier) const noexcept {
    return gate_ != nullptr && gate_->holds_stores(tier);
  }

  // ---- Operations.
  L2Operation& make(L2Kind kind, TierId tier);
  void add(L2Operation& operation, const CellName& name, L2Cell cell, const SlotRef* slot) const;
  std::string name_of(const CellName& cell) const;
  /// The serial of the next operation.
  std::uint64_t next_serial() const noexcept { return next_serial_; }
  /// Whether a store that was made before that serial has not ended. O(operations).
  bool has_stores_before(TierId tier, std::uint64_t serial) const noexcept;
  /// The slot's memory, for connectors.
  Slice memory_of(const SlotRef& slot) const noexcept;
  /// Exists from memory: true where the answers are in `operation`, which was not submitted.
  bool probe(L2Operation& operation) noexcept;
  /// Submits it now or when there is room. It comes out of take_ended().
  void send(L2Operation& operation);
  /// A hint to the connector; an operation that is still queued here ends at once.
  void cancel(L2Operation& operation);
  /// Every kGet operation of this source.
  void cancel_gets(std::uint64_t source);
  L2Operation& operation(std::uint32_t id) noexcept { return operations_[id]; }
  void release(L2Operation& operation) noexcept { operations_.release(operation.id); }

  // ---- Ends.
  void reap(TierId tier);
  /// Null: nothing more has ended.
  L2Operation* take_ended();
  bool has_ended() const noexcept { return !ended_.empty(); }
  /// Submits operations that had to wait.
  void submit_queued(TierId tier);
  void on_timer(TierId tier) { submit_queued(tier); }

  /// Cells without a waiter are not kept any more when they arrive (E36).
  void keep_nothing() noexcept;

  std::uint64_t bytes_in_flight(TierId tier, L2Kind kind) const noexcept {
    return lanes_[tier].bytes[static_cast<std::size_t>(kind)];
  }
  std::uint32_t operations() const noexcept { return operations_.size(); }
  Connector& connector(TierId tier) noexcept { return *tiers_[tier].connector; }
  /// Cancels every operation that is with a connector or queued. Later ones fail at once.
  void close();

 private:
  struct Lane {
    std::array<std::uint64_t, kL2Kinds> bytes{};    ///< In flight, by L2Kind.
    std::array<std::uint64_t, kL2Kinds> batches{};  ///< The same.
    std::deque<std::uint32_t> queued;               ///< Operations.
    std::uint64_t load_bytes_max = 0;
    Capabilities capabilities;
    Timer retry;
  };

  bool has_room(const L2Operation& operation) const noexcept;
  /// False: the connector has no room now.
  bool submit(L2Operation& operation);
  void count_begin(L2Operation& operation) noexcept;
  void count_end(L2Operation& operation) noexcept;

  EngineState& state_;
  std::vector<Tier> tiers_;
  const KeyNames& names_;
  Arena& arena_;
  std::deque<Lane> lanes_;  ///< By TierId; timers do not move.
  Slab<L2Operation> operations_;
  std::uint64_t next_serial_ = 0;
  TierAccounts accounts_;
  const PurgeGate* gate_ = nullptr;
  std::deque<std::uint32_t> ended_;
  TierMask loads_ = 0;
  TierMask stores_ = 0;
  bool is_closed_ = false;
};

}  // namespace larder::cache
