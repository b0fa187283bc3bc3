#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/coverage.h"

namespace larder::simulation {

struct HistoryOptions {
  std::uint64_t seed = 1;
  bool trace = false;  ///< Prints every event on stdout.
};

struct HistoryResult {
  std::string failure;     ///< Empty: every rule held.
  std::uint64_t hash = 0;  ///< Of everything that the disk and the oracle saw.
  std::uint64_t operations = 0;
  std::uint64_t segments_begun = 0;
  Coverage coverage;
};

/// Runs the history of one seed: hundreds of operations, several lives of the store, the ring
/// turned at least twice, and checks every outcome.
HistoryResult run_history(const HistoryOptions& options);

}  // namespace larder::simulation
