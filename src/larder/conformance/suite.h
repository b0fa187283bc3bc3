#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "larder/conformance/spec_subject.h"

namespace larder::conformance {

/// Which cases a run has, and the seed of its random choices.
struct SuiteOptions {
  std::string filter;  ///< A rule ("C4"), or a part of a case's name; empty: every case.
  std::uint64_t seed = kDefaultSeed;
};

/// How many cases there were, by how they ended.
struct SuiteResult {
  std::size_t good = 0;
  std::size_t failed = 0;
  std::size_t skipped = 0;  ///< The subject or the machine lacks what the case is about.
};

/// Receives the output, piece by piece, in reading order.
using Writer = std::function<void(std::string_view)>;

/// Runs the cases on the subject, rule by rule, and writes each rule with its cases and their
/// failures as they end. Setting `stop` ends the run before the next case. Error: the filter
/// matches no case.
SetupResult<SuiteResult> run_suite(const SpecSubject& tested, const SuiteOptions& options,
                                   const Writer& write, const std::atomic<bool>& stop);

/// Every rule with its cases, as text.
std::string list_suite();

}  // namespace larder::conformance
