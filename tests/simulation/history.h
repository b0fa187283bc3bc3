#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/coverage.h"

namespace larder::simulation {

struct HistoryOptions {
  std::uint64_t seed = 1;
  bool trace = false;  ///< Prints every event on stdout.
  /// The history ends early: once this many segments were made ready to be overwritten, at the very
  /// moment, the power is cut and nothing that was not synced survives. 0: it does not.
  std::uint64_t cut_at = 0;
};

struct HistoryResult {
  std::string failure;     ///< Empty: every rule held, and the history was long enough.
  std::uint64_t hash = 0;  ///< Of everything that the disk and the oracle saw.
  std::uint64_t operations = 0;
  std::uint64_t keys = 0;
  std::uint64_t segments = 0;
  std::uint64_t segments_begun = 0;
  std::uint64_t segments_prepared = 0;  ///< What HistoryOptions::cut_at counts.
  std::uint64_t restarts = 0;
  std::uint64_t power_cuts = 0;
  Coverage coverage;
};

/// Runs the history of one seed: hundreds of operations on dozens of keys of which two share a
/// fingerprint, several lives of the store with a power cut among them, the ring turned at least
/// twice; and checks every outcome. One that ends up shorter than plan.h says is a failure.
HistoryResult run_history(const HistoryOptions& options);

}  // namespace larder::simulation
