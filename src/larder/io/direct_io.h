#pragma once

#include <string>

#include "larder/base/result.h"
#include "larder/io/device.h"

namespace larder::io {

/// Whether O_DIRECT works in a directory, and what it demands there.
struct DirectIoSupport {
  bool is_supported = false;
  std::string why_not;  ///< For a person; empty when supported.
  Alignment alignment;
};

/// Makes a nameless scratch file in the directory and asks the kernel (statx), or tries where the
/// kernel cannot tell. A directory that cannot be written to has no direct I/O.
DirectIoSupport probe_direct_io(int directory_fd);

/// "ext4", "xfs", "tmpfs", ... or the number in hex.
std::string file_system_name(std::uint64_t magic);

}  // namespace larder::io
