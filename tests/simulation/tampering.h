#pragma once

#include "larder/base/random.h"
#include "larder/io/simulated_disk.h"

namespace larder::simulation {

/// Some flipped bits in segment files.
void rot(Random& random, io::SimulatedDisk& disk);

/// What a careless administrator or a bad disk does to the files of a store that nobody has open:
/// flipped bits, copied, swapped and shortened segment files, one lost copy of the superblock.
void tamper(Random& random, io::SimulatedDisk& disk);

}  // namespace larder::simulation
