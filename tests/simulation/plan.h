#pragma once

#include <cstdint>
#include <vector>

#include "larder/connectors/log/machine/options.h"
#include "tests/support/io/simulated_disk.h"

namespace larder::simulation {

/// How a life of the store's owner ends.
enum class Ending : std::uint8_t { kCleanClose = 0, kKill, kPowerCut };

// What no history is shorter than.
inline constexpr std::uint32_t kKeysMin = 40;
inline constexpr std::uint32_t kSegmentsMin = 6;
inline constexpr std::uint64_t kOperationsMin = 300;
inline constexpr std::uint64_t kTurnsMin = 2;  ///< Of the ring.
inline constexpr std::uint64_t kRestartsMin = 3;
inline constexpr std::uint64_t kPowerCutsMin = 1;

/// In every history these two keys have one fingerprint.
inline constexpr std::size_t kTwins[] = {5, 6};

/// What one history is made of; everything follows from its seed.
struct Plan {
  log_store::PathOptions path;
  io::SimulatedDiskOptions disk;
  io::SimulatedFaults faults;  ///< While the store runs; it ends without.
  io::SimulatedFaults open_faults;
  std::vector<Ending> endings;
  std::uint32_t keys = 0;
  std::uint32_t operations_per_life = 0;
  std::uint32_t outstanding_max = 0;  ///< Batches.
  bool opens_with_faults = false;     ///< Some tries; the last ones are without.
  bool dies_while_opening = false;
  bool dies_inside_calls = false;  ///< A kill comes in the middle of a turn.
  bool tampers = false;            ///< Bit rot, copied, swapped and cut files between lives.
  bool rots_while_running = false;
  bool all_collide = false;   ///< All keys share a few fingerprints.
  bool has_hot_keys = false;  ///< Nearly all Sets go to a handful, so that segments die whole.
  bool reads_much = false;
  bool holds_prefixes = false;  ///< Few Sets replace, and few keys are deleted.
  bool has_tiny_index = false;
  bool squeezes_space = false;       ///< Somebody else fills the file system for a while.
  bool changes_capacity = false;     ///< From open to open.
  bool changes_parameters = false;   ///< Others than the capacity, from open to open.
  bool forbids_files = false;        ///< Some segments cannot be opened for a while, or only read.
  bool restores_superblock = false;  ///< An older one comes back between lives.
  bool copies_by_reference = false;  ///< Now and then, so that overwriting takes new blocks.
};

Plan make_plan(std::uint64_t seed);

}  // namespace larder::simulation
