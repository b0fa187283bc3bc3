#pragma once

#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/cache/arena/arena.h"
#include "larder/server/options.h"

namespace larder::server {

/// What a pool's files are called in front of their own names, as in LMCache.
inline constexpr const char* kPoolPrefix = "lmcache_l1_pool_";
inline constexpr const char* kPoolDirectory = "/dev/shm";

/// The pool's name below kPoolDirectory (S20), of a server at `options.port`.
std::string pool_name(const ServerOptions& options);

/// L1's memory: the pool, or private memory where the options want none. Errors name the remedy,
/// also for a kPoolDirectory that is too small.
SetupResult<std::unique_ptr<cache::Arena>> open_l1(const ServerOptions& options);

}  // namespace larder::server
