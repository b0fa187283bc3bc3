#pragma once

#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/log/format/format.h"
#include "tests/support/io/simulated_disk.h"

namespace larder::simulation {

/// Some flipped bits in segment files.
void rot(Random& random, io::SimulatedDisk& disk);

/// What tampering has done.
struct Tampering {
  bool has_rotted = false;
  bool has_copied = false;
  bool has_swapped = false;
  /// Files that hold a good header of another segment of the store: they have to be set aside (L1).
  std::vector<std::string> misplaced;
};

/// What a careless administrator or a bad disk does to the files of a store that nobody has open:
/// flipped bits, copied, swapped and shortened segment files, one lost copy of the superblock.
Tampering tamper(Random& random, io::SimulatedDisk& disk, const log_store::Superblock& superblock);

}  // namespace larder::simulation
