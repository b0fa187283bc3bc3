#include "tests/simulation/tampering.h"

#include <string>
#include <vector>

#include "larder/connectors/log/format.h"
#include "larder/connectors/log/segments.h"

namespace larder::simulation {
namespace {

std::vector<std::string> segment_files(const io::SimulatedDisk& disk) {
  std::vector<std::string> names;
  for (const std::string& name : disk.names()) {
    if (log_store::segment_of_file_name(name) && disk.file_bytes(name) > 0) names.push_back(name);
  }
  return names;
}

const std::string& one_of(Random& random, const std::vector<std::string>& names) {
  return names[static_cast<std::size_t>(random.below(names.size()))];
}

void flip(Random& random, io::SimulatedDisk& disk, const std::string& name, std::uint64_t from,
          std::uint64_t bytes) {
  disk.flip_bit(name, from + random.below(bytes), static_cast<unsigned>(random.below(8)));
}

}  // namespace

void rot(Random& random, io::SimulatedDisk& disk) {
  const auto names = segment_files(disk);
  if (names.empty()) return;
  for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
    const std::string& name = one_of(random, names);
    const std::uint64_t bytes = disk.file_bytes(name);
    if (bytes < log_store::kGrainBytesMin) continue;
    switch (random.below(4)) {
      case 0:  // A header of a segment or of a record, or a table.
        flip(random, disk, name,
             random.below(bytes / log_store::kGrainBytesMin) * log_store::kGrainBytesMin, 96);
        break;
      case 1:  // A table's trailer.
        flip(random, disk, name, bytes - log_store::kGrainBytesMin, 144);
        break;
      default:
        flip(random, disk, name, 0, bytes);
    }
  }
}

void tamper(Random& random, io::SimulatedDisk& disk) {
  const auto names = segment_files(disk);
  if (names.empty()) return;
  for (std::uint64_t left = 1 + random.below(3); left > 0; --left) {
    switch (random.below(6)) {
      case 0:
        disk.copy_file(one_of(random, names), one_of(random, names));
        break;
      case 1:
        disk.swap_files(one_of(random, names), one_of(random, names));
        break;
      case 2: {
        const std::string& name = one_of(random, names);
        disk.truncate(name, random.below(disk.file_bytes(name) + 1));
        break;
      }
      case 3:
        flip(random, disk, std::string{log_store::kSuperblockFileName},
             random.below(2) * log_store::kSuperblockCopyStride, log_store::kSuperblockUsedBytes);
        return;  // One copy only: without the other nothing can be proven.
      default:
        rot(random, disk);
    }
  }
}

}  // namespace larder::simulation
