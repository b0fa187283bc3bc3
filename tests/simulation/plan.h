#pragma once

#include <cstdint>
#include <vector>

#include "larder/connectors/log/options.h"
#include "larder/io/simulated_disk.h"

namespace larder::simulation {

/// How a life of the store's owner ends.
enum class Ending : std::uint8_t { kCleanClose = 0, kKill, kPowerCut };

/// What one history is made of; everything follows from its seed.
struct Plan {
  log_store::PathOptions path;
  io::SimulatedDiskOptions disk;
  io::SimulatedFaults faults;  ///< While the store runs; it opens and ends without, unless told.
  std::vector<Ending> endings;
  std::uint32_t keys = 0;
  std::uint32_t operations_per_life = 0;
  std::uint32_t outstanding_max = 0;  ///< Batches.
  bool opens_with_faults = false;
  bool dies_while_opening = false;
  bool dies_inside_calls = false;  ///< A kill comes in the middle of a turn.
  bool tampers = false;            ///< Bit rot, copied, swapped and cut files between lives.
  bool rots_while_running = false;
  bool collides = false;
  bool has_tiny_index = false;
  bool squeezes_space = false;  ///< Somebody else fills the file system for a while.
};

Plan make_plan(std::uint64_t seed);

}  // namespace larder::simulation
