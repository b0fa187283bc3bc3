#pragma once

#include <cstdint>
#include <memory>

#include "larder/connector/connector.h"
#include "larder/tools/replay.h"

namespace larder::tools {

/// The traffic of one connector below L1. A value is one cell.
struct TierCounts {
  std::uint64_t values_loaded = 0;
  std::uint64_t bytes_loaded = 0;
  std::uint64_t load_misses = 0;  ///< The lookup saw it, and the load did not.
  Failures load_failures;
  std::uint64_t values_stored = 0;
  std::uint64_t bytes_stored = 0;
  std::uint64_t already_there = 0;  ///< Stores that found their key.
  FailureCount stores_refused;      ///< By a limit (kResourceExhausted): one attempt each.
  Failures store_failures;          ///< The same of all others.
  Failures lookup_failures;

  bool is_every_store_refused() const noexcept {
    return stores_refused.count > 0 && values_stored == 0 && already_there == 0;
  }
};

/// Passes everything to `inner` and counts the results. A cancelled operation is no failure: only
/// the engine cancels, and it gives the reason. `inner` and `counts` outlive it; stop() stays the
/// owner's of `inner`.
std::unique_ptr<Connector> count_tier(Connector& inner, TierCounts& counts);

}  // namespace larder::tools
