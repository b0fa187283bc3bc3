#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace larder::tools {

/// Where a path is mounted, as /proc/self/mountinfo has it.
struct Mount {
  std::string point;
  std::string file_system;
  std::string source;
  std::string options;  ///< Of the mount and of the file system.
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
};

/// The mount that `path`, absolute and without links, lies on; the last one where several cover it.
std::optional<Mount> parse_mount_info(std::string_view mount_info, std::string_view path);

/// What a block device has transferred since it came up.
struct DiskCounts {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

/// The device's line of /proc/diskstats; nothing when it has none.
std::optional<DiskCounts> parse_disk_stats(std::string_view disk_stats, std::uint32_t device_major,
                                           std::uint32_t device_minor);

/// The block device behind a directory.
class Disk {
 public:
  /// Nothing when there is no block device that the kernel counts for (tmpfs, network, overlay).
  static std::optional<Disk> behind(const std::string& directory);

  /// Now. Reads /proc/diskstats; nothing when the device has gone.
  std::optional<DiskCounts> counts() const;

  std::string name() const;         ///< "nvme0n1p2"
  std::string description() const;  ///< "nvme0n1p2, Samsung ..., scheduler none"
  bool is_rotational() const;       ///< As the kernel believes.
  /// A loop device that goes through the page cache of the file below it.
  bool is_buffered_loop() const;

 private:
  Disk(std::uint32_t device_major, std::uint32_t device_minor)
      : major_(device_major), minor_(device_minor) {}

  /// A file below the device's folder in /sys, or below its whole disk's; without the line's end.
  std::string attribute(std::string_view name) const;

  std::uint32_t major_ = 0;
  std::uint32_t minor_ = 0;
};

/// Writes dirty pages of every regular file below `directory` back and drops what the page cache
/// has of them, so that the next read comes from the device. Files read with O_DIRECT do not need
/// it.
void drop_cached_pages(const std::string& directory);

/// The content of a small file of /proc or /sys; empty when it cannot be read.
std::string read_small_file(const std::string& path);

}  // namespace larder::tools
