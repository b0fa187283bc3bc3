#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {

struct LoopMountOptions {
  std::string file_system;           ///< "ext4" or "xfs" (from 300 MiB on).
  std::uint64_t bytes = 0;           ///< Of the image.
  std::uint32_t sector_bytes = 512;  ///< 512 or 4096.
  /// The loop device goes past the page cache of the file system below it, as a disk does.
  bool direct_io = true;
  std::vector<std::string> make_arguments;  ///< More, for mkfs.
  std::string mount_options;                ///< Of the file system's own, as in "prjquota".
  unsigned long mount_flags = 0;            ///< MS_...
  std::string image_directory;  ///< Where the image is; empty: where temporary files are.
};

/// A fresh file system on a loop device over a sparse image file, mounted below the directory for
/// temporary files; unmounted, detached and deleted by the destructor, open files or not.
class LoopMount {
 public:
  /// The error is kUnimplemented where this cannot be had at all (not root, no loop devices, no
  /// such file system or mount option): skip the test then.
  static SetupResult<std::unique_ptr<LoopMount>> create(const LoopMountOptions& options);
  static SetupResult<std::unique_ptr<LoopMount>> create(const std::string& file_system,
                                                        std::uint64_t bytes,
                                                        std::uint32_t sector_bytes, bool direct_io);
  ~LoopMount();
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

  /// Where it is mounted; empty but for what mkfs makes (lost+found).
  const std::string& path() const noexcept { return mount_point_; }
  /// Unmounts, once nobody has a file open any more, and mounts again, as after a repair.
  SetupStatus mount_again();
  /// "/dev/loop3"
  const std::string& device() const noexcept { return device_; }

 private:
  LoopMount() = default;
  SetupStatus mount();

  TemporaryDirectory directory_;
  LoopMountOptions options_;
  std::string image_;
  std::string mount_point_;
  std::string device_;
  bool is_mounted_ = false;
};

}  // namespace larder::testing
