#pragma once

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/room_watch.h"
#include "tests/engine_simulation/workers.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// What operators do to a running engine: clear, removal, quotas, another layout (E4, E22, E36).
class Operations {
 public:
  Operations(World& world, Clients& clients, Workers& workers, RoomWatch& room)
      : world_(world), clients_(clients), workers_(workers), room_(room) {}

  /// One of them, as the plan allows.
  void event();
  void clear(bool force);
  void set_quota();

 private:
  void act();
  void remove();
  void change_layout();
  void check_cleared(std::optional<std::uint32_t> space, bool force);

  World& world_;
  Clients& clients_;
  Workers& workers_;
  RoomWatch& room_;
};

}  // namespace larder::cache::simulation
