#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace larder::testing {

/// How many seeds each of `shards` tests of a simulation runs: LARDER_SIM_SEEDS in all, 2,000 where
/// it is not set, and one at least.
inline std::uint64_t seeds_per_shard(std::uint64_t shards) {
  const char* const text = std::getenv("LARDER_SIM_SEEDS");
  const std::uint64_t seeds = text == nullptr ? 2000 : std::strtoull(text, nullptr, 10);
  return std::max<std::uint64_t>(1, seeds / shards);
}

}  // namespace larder::testing
