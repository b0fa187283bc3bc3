#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "larder/cache/admission.h"
#include "larder/cache/asking.h"
#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetch.h"
#include "larder/cache/loading.h"
#include "larder/cache/promotion.h"
#include "larder/cache/sessions.h"
#include "larder/cache/slab.h"
#include "larder/cache/stores.h"
#include "larder/cache/tiers.h"
#include "larder/cache/uses.h"

namespace larder::cache {

/// The lookups that need L2: asking, waiting, loading, and the result (E23 to E32).
///
/// Each fetch ends once: with its loads, at its deadline with the prefix that exists, or with its
/// session. Its timer is its deadline.
/// Threads: the engine's.
class Fetches {
 public:
  Fetches(EngineState& state, Cells& cells, Sessions& sessions, Tiers& tiers, Stores& stores,
          Uses& uses, Promotion& promotion);

  /// `spec.chunks` are all asked for; those `before` them are only used in L1.
  void start(SessionId session, const LookupSpec& spec, std::span<const ChunkHash> before,
             std::uint32_t readers);
  /// An Exists or load batch has ended.
  void on_ended(L2Operation& operation);
  void on_timer(std::uint32_t fetch);
  /// At the engine's end: fetches that wait for room are answered as at their deadline.
  void stop_waiting();
  /// The session ends (E11).
  void cancel(std::uint32_t fetch);
  /// A key that is being deleted in a tier is not loaded from it any more.
  void on_purge();
  /// Running loads are not kept (E36).
  void on_clear(std::optional<SpaceId> space);
  /// Finishes fetches that can finish and admits those that may run. Call it when something has
  /// changed.
  void go_on();

  void begin_turn() noexcept { admission_.begin_turn(); }
  bool wants_turn() const noexcept { return admission_.wants_turn(); }
  std::uint32_t size() const noexcept { return fetches_.size(); }
  std::size_t waiting() const noexcept { return admission_.size(); }
  Admission& admission() noexcept { return admission_; }

  void check_invariants() const;

 private:
  void finish(std::uint32_t id);
  std::uint32_t served(const Fetch& fetch);
  void promote(Fetch& fetch, std::uint32_t hit);
  void use(const Fetch& fetch, std::uint32_t hit);
  void count(const Fetch& fetch, std::uint32_t hit);
  Miss reason(const Fetch& fetch, std::uint32_t hit) const;
  void forget(std::uint32_t id);

  EngineState& state_;
  Cells& cells_;
  Sessions& sessions_;
  Tiers& tiers_;
  Stores& stores_;
  Uses& uses_;
  Promotion& promotion_;
  Slab<Fetch> fetches_;
  Asking asking_;
  Loading loading_;
  Admission admission_;
  Fold fold_;
};

}  // namespace larder::cache
