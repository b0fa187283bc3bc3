#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/room_watch.h"
#include "tests/engine_simulation/tier.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// What engines ask of tiers, load from them and store into them, beside what each batch must keep
/// by itself (E5, E23, E25, E27, E32 to E34).
///
/// "Steadily": the tier has had the cell, and has answered, since before the oldest lookup that
/// runs, and no load of the cell from it has failed since.
class LookupWatch {
 public:
  LookupWatch(World& world, Clients& clients, RoomWatch& room, std::deque<TierUnderTest>& tiers)
      : world_(world), clients_(clients), room_(room), tiers_(tiers) {}

  void before_lookup(Request& request);
  void after_lookup();
  void on_hit(const Request& request);
  void on_cancel(const Request& request);
  void before_commit(const Writing& writing, bool publishes);

  void after_commit(const Writing& writing, bool is_stored);

  // ---- What tiers see.
  void on_probe(std::span<const Item> items);
  /// The engine tells the tier of a use.
  void on_touch(TierId tier, std::span<const Item> items);
  void on_load(TierId tier, const CellId& cell);
  void on_store(TierId tier, const CellId& cell);
  /// The cell is in L1 anew, and its stores may fail three times again.
  void on_resident(const CellId& cell);

  void check(const EngineStats& stats);
  /// Everything that was to be stored was stored.
  void check_fills();
  /// What was committed, and not removed since, is in every tier.
  void check_commits();
  void on_restart();

 private:
  std::uint64_t oldest_running() const;
  bool has_anywhere(const Request& request, const CellId& cell) const;
  void check_longest(const Request& request);
  void expect_fills(const Request& request);
  void check_joined(TierId tier, const CellId& cell);
  void check_first(TierId tier, const CellId& cell);
  void check_passed(Request& request);
  void check_abandoned(const EngineStats& stats) const;
  void check_load_share(const EngineStats& stats);
  bool submits_at_once(TierId tier) const;
  bool may_judge_queue() const;

  World& world_;
  Clients& clients_;
  RoomWatch& room_;
  std::deque<TierUnderTest>& tiers_;
  bool is_in_lookup_ = false;
  bool has_hole_ = false;
  std::uint32_t asks_from_ = 0;    ///< The begin of the lookup that runs.
  std::uint64_t last_lookup_ = 0;  ///< Its serial.
  std::uint64_t orders_ = 0;
  std::map<CellId, std::uint64_t> order_;    ///< Of the commits.
  std::map<CellId, std::uint64_t> commits_;  ///< World::disturbances at that time.
  std::array<std::uint64_t, kTiersMax> last_order_{};
  std::set<CellId> hit_columns_;  ///< With rank and group 0.
  std::vector<CellId> unhit_;     ///< Stored in this step into a tier that wants hits first.
  std::vector<std::pair<TierId, CellId>> fills_;
  std::map<std::pair<TierId, CellId>, std::uint64_t> told_;  ///< The interval, by cell.
  std::vector<std::uint64_t> passed_;  ///< Serials of heads that others may have passed.
};

}  // namespace larder::cache::simulation
