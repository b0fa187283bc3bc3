#include "tests/simulation/tampering.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/format.h"

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

bool is_whole_superblock(const io::SimulatedDisk& disk, std::uint64_t copy) {
  const auto image =
      disk.read_image(log_store::kSuperblockFileName, copy, log_store::kGrainBytesMin);
  std::uint32_t major = 0;
  return log_store::decode_superblock(image, major).has_value();
}

/// By the bytes of docs/format_log.md, so that it holds whatever the store believes.
bool is_misplaced(const io::SimulatedDisk& disk, const std::string& name,
                  const log_store::Superblock& superblock) {
  constexpr std::size_t kSegmentNumberAt = 56;
  if (disk.file_bytes(name) < log_store::kGrainBytesMin) return false;
  const auto header = disk.read_image(name, 0, log_store::kGrainBytesMin);
  std::uint32_t number = 0;
  std::memcpy(&number, header.data() + kSegmentNumberAt, sizeof(number));
  return number != log_store::segment_of_file_name(name) &&
         log_store::decode_segment_header(header, superblock.path_id, number, superblock.secret)
             .has_value();
}

}  // namespace

void rot(Random& random, io::SimulatedDisk& disk) {
  const auto names = segment_files(disk);
  if (names.empty()) return;
  for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
    const std::string& name = one_of(random, names);
    const std::uint64_t bytes = disk.file_bytes(name);
    if (bytes < log_store::kGrainBytesMin) continue;
    switch (random.below(5)) {
      case 0:  // A header of a segment or of a record, or a table.
        flip(random, disk, name,
             random.below(bytes / log_store::kGrainBytesMin) * log_store::kGrainBytesMin, 96);
        break;
      case 1:  // A table's trailer.
        flip(random, disk, name, bytes - log_store::kGrainBytesMin, 144);
        break;
      case 2: {  // A table's entries or keys.
        const std::uint64_t table_bytes =
            std::min<std::uint64_t>(bytes, 4 * log_store::kGrainBytesMin);
        flip(random, disk, name, bytes - table_bytes, table_bytes);
        break;
      }
      default:
        flip(random, disk, name, 0, bytes);
    }
  }
}

Tampering tamper(Random& random, io::SimulatedDisk& disk, const log_store::Superblock& superblock) {
  Tampering done;
  const auto names = segment_files(disk);
  if (names.empty()) return done;
  for (std::uint64_t left = 1 + random.below(3); left > 0; --left) {
    switch (random.below(6)) {
      case 0:
        disk.copy_file(one_of(random, names), one_of(random, names));
        done.has_copied = true;
        break;
      case 1:
        disk.swap_files(one_of(random, names), one_of(random, names));
        done.has_swapped = true;
        break;
      case 2: {
        const std::string& name = one_of(random, names);
        disk.truncate(name, random.below(disk.file_bytes(name) + 1));
        break;
      }
      case 3: {
        // Without the other copy nothing can be proven; a full disk may have kept an owner from
        // mending it.
        const std::uint64_t copy = random.below(2) * log_store::kSuperblockCopyStride;
        if (!is_whole_superblock(disk, log_store::kSuperblockCopyStride - copy)) break;
        flip(random, disk, std::string{log_store::kSuperblockFileName}, copy,
             log_store::kSuperblockUsedBytes);
        break;
      }
      default:
        rot(random, disk);
        done.has_rotted = true;
    }
  }
  for (const std::string& name : names) {
    if (is_misplaced(disk, name, superblock)) done.misplaced.push_back(name);
  }
  return done;
}

}  // namespace larder::simulation
