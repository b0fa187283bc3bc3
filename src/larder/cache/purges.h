#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/slab.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// Deletes in the tiers (E36): columns by name, or keys that the driver chooses from pages of a
/// tier's keys, because only the driver can read a name, and only its threads may wait for a scan.
///
/// Promise: everything of its scope that the tiers and L1 had when the purge began is gone when it
///   ends, and does not come back. So a tier is left alone until its earlier stores have ended;
///   until the purge has finished with it, nothing is stored to it, and keys to delete are neither
///   found in it nor loaded from it. Stores to L1 meanwhile reach the tier afterwards.
/// Ends: on_purged() comes exactly once: when every tier is through or has failed, or at the
///   deadline, then as soon as the batches that are with connectors are back.
/// Bounds: one batch of `exists_keys_max` keys for each tier and purge; one page for each tier, or
///   the names of the columns.
/// Threads: the engine's. Cost: O(keys), a text for each; O(operations in flight) while it waits
///   for stores; O(purges) for a question of the gate.
class Purges final : public PurgeGate {
 public:
  Purges(EngineState& state, Tiers& tiers) : state_(state), tiers_(tiers) {}

  /// Every cell of these columns, in every tier.
  void start_columns(Ticket ticket, SpaceId space, std::span<const ChunkHash> chunks,
                     std::uint64_t deadline_ns);
  /// These keys, in some tiers.
  void start_keys(Ticket ticket, std::span<const TierKey> keys, TierMask tiers,
                  std::uint64_t deadline_ns);
  /// The driver's choice, of the space if there is one.
  void start_pages(Ticket ticket, std::optional<SpaceId> space, std::uint64_t deadline_ns);
  void give_page(const PageWanted& question, const PurgePage& page);
  /// A batch of deletes has ended.
  void on_ended(L2Operation& operation);
  void on_timer(std::uint32_t number);
  /// Goes on where stores have ended.
  void go_on();
  /// Begins nothing more, and cancels pending operations of connectors. For the end of the engine.
  void stop();

  bool hides(TierId tier, SpaceId space, const ChunkHash& chunk) const noexcept override;
  bool holds_stores(TierId tier) const noexcept override;
  std::uint32_t size() const noexcept { return purges_.size(); }

 private:
  enum class Step : std::uint8_t {
    kWaits = 0,  ///< For earlier stores.
    kPage,       ///< The driver has been asked for a page.
    kDeletes,    ///< A batch is out.
    kEnded,
  };
  struct Lane {
    Step step = Step::kWaits;
    std::uint32_t operation = kNone;  ///< kDeletes.
    std::uint64_t question = 0;       ///< kPage: its number.
    std::vector<std::string> page;
    std::size_t at = 0;    ///< The first key that was not sent.
    ScanCursor next;       ///< Of the page after.
    bool is_last = false;  ///< Nothing comes after these keys.
  };
  struct ChunkFingerprint {
    std::size_t operator()(const ChunkHash& chunk) const noexcept { return chunk.fingerprint(); }
  };
  struct Name {
    std::string text;
    SaltId salt{};            ///< Whose account it is in, where its bytes are known.
    std::uint32_t bytes = 0;  ///< 0: not known.
  };
  struct Purge {
    Ticket ticket{};
    std::uint64_t deadline_ns = kNever;
    std::uint64_t stores_before = 0;  ///< Serial: operations made earlier are waited for.
    bool is_named = false;
    std::optional<SpaceId> space;
    /// Of a named one. Looked up only.
    std::unordered_set<ChunkHash, ChunkFingerprint> chunks;
    std::vector<Name> names;  ///< Of their cells.
    std::vector<Lane> lanes;  ///< By TierId.
    PurgeResult result;
    Error over;  ///< Why nothing more is begun; code kNone: it continues.
    Timer timer;
  };

  std::uint32_t start(Ticket ticket, std::uint64_t deadline_ns);
  void add_name(Purge& purge, std::string text, SpaceId space, std::uint32_t group) const;
  std::uint32_t find(Ticket ticket) const noexcept;
  void go_on(std::uint32_t number);
  void go_on(std::uint32_t number, TierId tier);
  void ask(Purge& purge, TierId tier);
  void send(std::uint32_t number, TierId tier);
  void count(Purge& purge, TierId tier, const L2Cell& cell, const Item& item);
  void skip(Purge& purge, TierId tier, const Error& error);
  void skip_all(std::uint32_t number, const Error& error);
  void end_if_through(std::uint32_t number);

  EngineState& state_;
  Tiers& tiers_;
  Slab<Purge> purges_;
  std::uint64_t questions_ = 0;
};

}  // namespace larder::cache
