#pragma once

#include <cstddef>
#include <cstdint>

#include "larder/cache/policies/chain_cache_test_support.h"
#include "larder/connector/connector.h"

namespace larder::testing {

/// What came of a workload on a store.
struct StoreHits {
  std::uint64_t hits = 0;    ///< Blocks of the longest prefixes that were there.
  std::uint64_t loaded = 0;  ///< Those of them that were not evicted before they were loaded.
  std::uint64_t misses = 0;
  std::uint64_t failures = 0;  ///< Neither a hit, a miss nor stored.
};

/// Each request in turn, as a serving engine does it: a lookup of its keys, a load of the prefix
/// that is there, and a store of the others. Values have `value_bytes`, all the same ones.
StoreHits run_workload(Connector& store, const cache::testing::Workload& workload,
                       std::size_t value_bytes);

}  // namespace larder::testing
