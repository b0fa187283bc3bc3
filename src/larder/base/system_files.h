#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace larder {

// Figures that the kernel gives in /proc and /sys. Threads: any.

/// The content of a small file of /proc or /sys; empty when it cannot be read.
std::string read_small_file(const std::string& path);

/// The mount of a path, from /proc/self/mountinfo.
struct Mount {
  std::string point;
  std::string file_system;
  std::string source;
  std::string options;  ///< Options of the mount and of the file system, separated by commas.
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
};

/// The mount that `path`, absolute and without links, lies on; the last one where several cover it.
std::optional<Mount> parse_mount_info(std::string_view mount_info, std::string_view path);
/// The mount that an existing `path` lies on in this process's view.
std::optional<Mount> mount_of(const std::string& path);

/// Bytes that a block device has transferred since it came up.
struct DiskCounts {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

/// The device's line of /proc/diskstats; empty when it has none.
std::optional<DiskCounts> parse_disk_stats(std::string_view disk_stats, std::uint32_t device_major,
                                           std::uint32_t device_minor);

/// Whether the kernel gives huge pages to anonymous memory that asks for them: "always", "madvise"
/// or "never"; empty: it has none.
std::string huge_pages_of_memory();

/// Whether the kernel gives huge pages to files of the tmpfs of `mount`: "always", "within_size" or
/// "advise", or "never". `shmem_enabled` is the content of the file of that name in
/// /sys/kernel/mm/transparent_hugepage, which can only overrule the mount: by "deny" or "force".
/// Source: Documentation/admin-guide/mm/transhuge.rst of Linux.
std::string huge_pages_of_tmpfs(const Mount& mount, std::string_view shmem_enabled);
/// The same for an existing directory; empty: the kernel has none, or it is no tmpfs.
std::string huge_pages_of_tmpfs(const std::string& directory);

}  // namespace larder
