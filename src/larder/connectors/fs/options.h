#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "larder/connector/batch_limits.h"
#include "larder/connector/connector.h"

namespace larder::fs {

enum class Fsync : std::uint8_t { kNone = 0, kFile, kDirectory };
enum class Checksum : std::uint8_t { kNone = 0, kXattr };
enum class Staged : std::uint8_t { kAuto = 0, kYes, kNo };

/// The options of a spec, checked as far as possible without the disk.
struct FsOptions {
  std::string base_path;
  std::string made;              ///< The directory, where this open made it; else empty.
  std::string temporary_folder;  ///< Below base_path; empty: base_path itself.
  std::array<std::uint32_t, kBatchClassCount> workers = {4, 4, 4};
  bool use_direct = false;
  std::uint64_t pad_to_bytes = 0;      ///< LMCache's padding of files: see padding.h. 0: none.
  std::uint64_t read_ahead_bytes = 0;  ///< Buffered only; 0: the kernel's default.
  std::uint64_t load_bytes_max = std::uint64_t{1536}
                                 << 20;  ///< Bytes of loads that the kernel has at once.
  std::uint64_t capacity_bytes = 0;      ///< 0: no bound.
  std::uint64_t min_free_bytes = 0;      ///< Only with a capacity.
  Fsync fsync = Fsync::kNone;
  Checksum checksum = Checksum::kNone;
  Staged staged = Staged::kAuto;
  bool has_shards = false;
  bool is_exclusive = false;
  mode_t file_mode = 0600;
  std::uint64_t value_bytes_max = kValueBytesMax;
  std::uint64_t stall_ns = 5'000'000'000;
  std::uint64_t miss_after_failure_ns = 30'000'000'000;
  BatchLimitOptions limits;

  /// Processes that may read or write the files may list the directories.
  mode_t directory_mode() const noexcept { return file_mode | 0100U | ((file_mode >> 2U) & 0011U); }
};

}  // namespace larder::fs
