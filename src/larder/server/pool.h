#pragma once

#include <memory>

#include "larder/base/result.h"
#include "larder/cache/arena/arena.h"
#include "larder/server/options.h"

namespace larder::server {

/// The directory of POSIX shared memory.
inline constexpr const char* kPoolDirectory = "/dev/shm";

/// L1's memory (S20): the pool, or private memory where the options want none. Errors name the
/// remedy, also when kPoolDirectory is too small.
SetupResult<std::unique_ptr<cache::Arena>> open_l1(const ServerOptions& options);

}  // namespace larder::server
