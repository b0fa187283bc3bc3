#pragma once

#include <cstdint>
#include <string>

#include "larder/io/device.h"

namespace larder::fs {

/// Facts about the file system under the base directory, found out at opening.
struct FileSystemFacts {
  std::string name;  ///< "ext4", "nfs", ...
  bool is_network = false;
  bool is_direct = false;  ///< O_DIRECT was asked for and works.
  std::string no_direct_why;
  io::Alignment alignment;  ///< Alignment of direct transfers.
  std::uint64_t block_bytes = 4096;
  bool has_unnamed_files = false;  ///< O_TMPFILE; see Draft.
};

}  // namespace larder::fs
