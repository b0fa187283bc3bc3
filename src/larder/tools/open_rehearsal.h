#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "larder/base/result.h"
#include "larder/tools/target.h"

namespace larder::tools {

/// What a store would allow once it is open.
struct StoreLimits {
  std::uint64_t capacity_bytes = 0;  ///< 0: no bound.
  std::uint64_t value_bytes_max = 0;
  std::size_t slices_max = 0;
  std::uint64_t segments = 0;       ///< Of a log store, at most; 0: the store has none.
  std::uint64_t segment_bytes = 0;  ///< Share of each.
};

/// Asks the code that opens a store on a file system what it would refuse, before it makes one:
/// parameters, the sizes of a new store, those of one that is there. Errors are the open's own. A
/// store that another process has open is kUnavailable. Nothing: the type keeps no files here, or
/// this user cannot write to the directory, or a file stands in its place; only an open can tell.
///
/// Makes scratch files without a name in the directory, or in the nearest one above it that exists,
/// and nothing else; holds the lock of a store that is there while it reads its superblock.
SetupResult<std::optional<StoreLimits>> rehearse_open(const ReadSpec& read);

}  // namespace larder::tools
