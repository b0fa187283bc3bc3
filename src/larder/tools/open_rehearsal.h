#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "larder/base/result.h"
#include "larder/tools/target.h"

namespace larder::tools {

/// The limits of a store once it is open.
struct StoreLimits {
  std::uint64_t capacity_bytes = 0;  ///< 0: no bound.
  std::uint64_t value_bytes_max = 0;
  std::size_t slices_max = 0;
  std::uint64_t segments = 0;       ///< Upper bound for a log store; 0: the store has none.
  std::uint64_t segment_bytes = 0;  ///< Share of each.
};

/// Asks the code that opens a store on a file system which errors it would return, before it makes
/// one: parameters, the sizes of a new or an existing store. Errors are the open's own. A store
/// that another process has open is kUnavailable. Empty: the type keeps no files here, or this user
/// cannot write to the directory, or a file is in its place; only an open can tell.
///
/// Makes nameless scratch files in the directory, or in the nearest existing one above it, and
/// nothing else; holds the lock of an existing store while it reads its superblock.
SetupResult<std::optional<StoreLimits>> rehearse_open(const ReadSpec& read);

}  // namespace larder::tools
