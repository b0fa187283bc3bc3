#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "larder/base/random.h"
#include "tests/simulation/store_under_test.h"

namespace larder::simulation {

/// A value that tries to pass for records (L1). By chance: single headers from anywhere on the
/// disk; a stretch of the head's own records, proven but elsewhere; or headers made for the very
/// place where the value will probably stand, for `claimed_key`, but without the store's secret.
/// Empty when the disk has nothing to copy yet.
std::vector<std::byte> forge_value(Random& random, StoreUnderTest& store, std::uint64_t bytes,
                                   std::span<const std::byte> claimed_key);

}  // namespace larder::simulation
