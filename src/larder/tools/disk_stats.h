#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/system_files.h"

namespace larder::tools {

/// The block device behind a directory.
class Disk {
 public:
  /// Nothing when there is no block device that the kernel counts for (tmpfs, network, overlay).
  static std::optional<Disk> behind(const std::string& directory);

  /// Now. Reads /proc/diskstats; empty when the device has gone.
  std::optional<DiskCounts> counts() const;

  std::string name() const;         ///< "nvme0n1p2"
  std::string description() const;  ///< "nvme0n1p2, Samsung ..., scheduler none"
  bool is_rotational() const;       ///< According to the kernel.
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

/// Writes back dirty pages of every regular file below `directory` and drops their page cache, so
/// that the next read comes from the device. Files read with O_DIRECT do not need it.
void drop_cached_pages(const std::string& directory);

}  // namespace larder::tools
