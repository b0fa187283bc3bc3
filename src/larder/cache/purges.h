#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/slab.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// Deletes in the tiers (E36): columns by name, or what the driver picks from pages of a tier's
/// keys, because only the driver can read a name and only its threads may wait for a scan.
///
/// Order: a tier is left alone until the stores that were with it when the purge began have ended;
///   one that ended behind a delete would bring back what that removed. So what was stored before
///   is gone after; what is stored meanwhile may be.
/// Ends: on_purged() comes exactly once, when every tier is through, has failed, or the deadline
/// has
///   come. A tier that does not answer ends with its batch and is named as skipped.
/// Bounds: one batch of `exists_keys_max` keys a tier and purge; a purge holds one page a tier.
/// Threads: the engine's. Cost: O(keys), and O(operations in flight) while it waits for stores.
class Purges {
 public:
  Purges(EngineState& state, Tiers& tiers) : state_(state), tiers_(tiers) {}

  /// Every cell of these columns, in every tier.
  void start_columns(Ticket ticket, SpaceId space, std::span<const ChunkHash> chunks,
                     std::uint64_t deadline_ns);
  /// What the driver picks.
  void start_pages(Ticket ticket, std::uint64_t deadline_ns);
  void give_page(Ticket ticket, TierId tier, const PurgePage& page);
  /// A batch of deletes has ended.
  void on_ended(L2Operation& operation);
  void on_timer(std::uint32_t number);
  /// Goes on where stores have ended.
  void go_on();
  /// No more pages: what is not with a connector ends as skipped. For the end of the engine.
  void stop();

  std::uint32_t size() const noexcept { return purges_.size(); }

 private:
  enum class Step : std::uint8_t {
    kWaits = 0,  ///< For stores of before.
    kPage,       ///< The driver has been asked for a page.
    kDeletes,    ///< A batch is out.
    kEnded,
  };
  struct Lane {
    Step step = Step::kWaits;
    std::uint32_t operation = kNone;  ///< kDeletes.
    std::vector<std::string> keys;    ///< Of the page.
    std::size_t at = 0;               ///< The first that was not sent.
    ScanCursor next;                  ///< Of the page after.
    bool is_last = false;             ///< Nothing comes after the page.
  };
  struct Purge {
    Ticket ticket{};
    std::uint64_t deadline_ns = kNever;
    std::uint64_t stores_before = 0;  ///< Serial: operations made earlier are waited for.
    std::vector<Lane> lanes;          ///< By TierId.
    PurgeResult result;
    Error over;  ///< Why nothing more is begun; code kNone: it goes on.
    Timer timer;
  };

  std::uint32_t start(Ticket ticket, std::uint64_t deadline_ns);
  std::uint32_t find(Ticket ticket) const noexcept;
  void go_on(std::uint32_t number);
  void go_on(std::uint32_t number, TierId tier);
  void send(std::uint32_t number, TierId tier);
  void skip(Purge& purge, TierId tier, const Error& error);
  void skip_all(std::uint32_t number, const Error& error);
  void end_if_through(std::uint32_t number);

  EngineState& state_;
  Tiers& tiers_;
  Slab<Purge> purges_;
};

}  // namespace larder::cache
