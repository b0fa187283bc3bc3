#pragma once

#include <cstdint>
#include <string>

#include "tests/engine_simulation/coverage.h"

namespace larder::cache::simulation {

struct HistoryOptions {
  std::uint64_t seed = 1;
  std::uint64_t steps = 500;
  bool trace = false;  ///< Prints every event on stdout.
};

struct HistoryResult {
  std::string failure;       ///< Empty: every rule held.
  std::uint64_t digest = 0;  ///< Of everything that the engine answered.
  Coverage coverage;
};

/// Runs the history of one seed. The engine's own invariants are looked at after every step; one
/// that does not hold aborts the process.
HistoryResult run_history(const HistoryOptions& options);

}  // namespace larder::cache::simulation
