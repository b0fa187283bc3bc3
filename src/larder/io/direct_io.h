#pragma once

#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

/// Whether O_DIRECT works in a directory, and the alignment that it needs there.
struct DirectIoSupport {
  bool is_supported = false;
  std::string why_not;  ///< A text for people; empty when O_DIRECT is supported.
  Alignment alignment;
};

/// Prefix of a scratch file's name where files cannot be nameless: the file is removed at once, but
/// a power cut in between may leave it.
inline constexpr std::string_view kScratchFilePrefix = ".larder-probe-";

/// Makes a nameless scratch file in the directory and asks the kernel (statx), or tries where the
/// kernel cannot tell. A directory that cannot be written to has no direct I/O.
DirectIoSupport probe_direct_io(int directory_fd);

/// Whether files in a directory can be given their blocks ahead (fallocate), which a store needs;
/// tried with a scratch file as above.
Status probe_allocation(int directory_fd);

/// "ext4", "xfs", "tmpfs", ... or the number in hex.
std::string file_system_name(std::uint64_t magic);

}  // namespace larder::io
