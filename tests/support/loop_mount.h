#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {

/// A fresh file system on a loop device over a sparse image file, mounted below the directory for
/// temporary files; unmounted, detached and deleted by the destructor, open files or not.
class LoopMount {
 public:
  /// `file_system` is "ext4" or "xfs" (from 300 MiB on), `sector_bytes` 512 or 4096. With
  /// `direct_io` the loop device goes past the page cache of the file system below, as a disk does.
  /// The error is kUnimplemented where this cannot be had at all (not root, no loop devices): skip
  /// the test then.
  static SetupResult<std::unique_ptr<LoopMount>> create(const std::string& file_system,
                                                        std::uint64_t bytes,
                                                        std::uint32_t sector_bytes, bool direct_io);
  ~LoopMount();
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

  /// Where it is mounted; empty but for what mkfs makes (lost+found).
  const std::string& path() const noexcept { return mount_point_; }

 private:
  LoopMount() = default;

  TemporaryDirectory directory_;
  std::string mount_point_;
  std::string device_;
  bool is_mounted_ = false;
};

}  // namespace larder::testing
