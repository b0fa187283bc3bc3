#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/purging.h"
#include "tests/engine_simulation/room_watch.h"
#include "tests/engine_simulation/workers.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// What operators do to a running engine: clears, removals, purges, quotas, limits and accounts of
/// tiers, another layout (E4, E22, E34, E36).
class Operations {
 public:
  Operations(World& world, Clients& clients, Workers& workers, RoomWatch& room, Purging& purging,
             std::deque<TierUnderTest>& tiers)
      : world_(world),
        clients_(clients),
        workers_(workers),
        room_(room),
        purging_(purging),
        tiers_(tiers) {}

  /// One of them, as the plan allows.
  void event();
  void clear(bool force, ClearScope scope);
  void set_quota();
  /// What the tiers hold of each salt: of each tier a count begins, or the one that runs ends.
  void count_accounts();
  void on_restart() { counts_.clear(); }

 private:
  /// Of a tier whose keys are being counted.
  struct Count {
    bool has_looked = false;
    std::vector<SaltBytes> found;
  };

  std::vector<SaltBytes> look(TierId tier) const;
  void end_count(TierId tier, Count& count);
  void act();
  void disturb();
  std::uint64_t deadline_ns();
  void remove();
  void purge();
  void change_layout();
  void check_cleared(std::optional<std::uint32_t> space, bool force);

  World& world_;
  Clients& clients_;
  Workers& workers_;
  RoomWatch& room_;
  Purging& purging_;
  std::deque<TierUnderTest>& tiers_;
  std::map<TierId, Count> counts_;  ///< That have not ended.
};

}  // namespace larder::cache::simulation
