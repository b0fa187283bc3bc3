#include "tests/crash/disk_evidence.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/format.h"

namespace larder::crash {
namespace {

std::vector<std::byte> read(const std::string& file, std::uint64_t offset, std::size_t bytes) {
  std::vector<std::byte> content(bytes);
  std::ifstream in{file, std::ios::binary};
  in.seekg(static_cast<std::streamoff>(offset));
  in.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(bytes));
  return content;
}

std::optional<log_store::Superblock> newest_superblock(const std::string& file) {
  std::optional<log_store::Superblock> newest;
  for (const std::uint64_t copy : {std::uint64_t{0}, log_store::kSuperblockCopyStride}) {
    std::uint32_t major = 0;
    const auto found =
        log_store::decode_superblock(read(file, copy, log_store::kSuperblockUsedBytes), major);
    if (found && (!newest || found->sequence > newest->sequence)) newest = *found;
  }
  return newest;
}

struct Used {
  std::uint64_t generation = 0;
  bool has_record = false;
  bool has_table = false;
};

}  // namespace

bool died_in_a_seal(const std::string& directory) {
  const auto superblock =
      newest_superblock(directory + "/" + std::string{log_store::kSuperblockFileName});
  if (!superblock) return false;
  const std::uint32_t grain = superblock->grain_bytes;
  std::vector<Used> used;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    const auto number = log_store::segment_of_file_name(entry.path().filename().string());
    if (!number) continue;
    const std::string file = entry.path().string();
    const auto generation = log_store::decode_segment_header(
        read(file, 0, grain), superblock->path_id, *number, superblock->secret);
    if (!generation || *generation >> 32U != superblock->open_count) continue;
    const log_store::Identity identity{
        .path_id = superblock->path_id, .segment = *number, .generation = *generation};
    const auto first = read(file, grain, grain);
    const auto trailer = read(file, superblock->segment_bytes - grain, grain);
    used.push_back(
        {.generation = *generation,
         .has_record = log_store::decode_record_header(first, identity, grain, superblock->secret)
                           .has_value(),
         .has_table = log_store::decode_table_trailer(trailer, identity, superblock->segment_bytes,
                                                      grain, superblock->secret)
                          .has_value()});
  }
  return std::ranges::any_of(used, [&](const Used& sealing) {
    return sealing.has_record && !sealing.has_table &&
           std::ranges::any_of(used, [&](const Used& head) {
             return head.has_record && head.generation > sealing.generation;
           });
  });
}

}  // namespace larder::crash
