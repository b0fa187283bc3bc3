#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <string>
#include <vector>

#include "larder/conformance/conformance.h"

// The suite as parameters of GoogleTest, for the executables that run it.

namespace larder::conformance {

/// One case on one subject.
struct Run {
  const Case* test_case = nullptr;
  Subject subject;
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's.
inline void PrintTo(const Run& run, std::ostream* out) {
  *out << run.test_case->rule;
}

inline std::vector<Run> runs_of(const std::vector<Subject>& subjects) {
  std::vector<Run> runs;
  for (const Subject& subject : subjects) {
    for (const Case& test_case : conformance_cases()) {
      if (applies(test_case, subject)) runs.push_back({&test_case, subject});
    }
  }
  return runs;
}

inline std::string name_of_run(const testing::TestParamInfo<Run>& info) {
  return info.param.subject.name + "_" + std::string{info.param.test_case->name};
}

/// LARDER_SEED replays what a failure printed.
inline void check_run(const Run& run) {
  const char* const seed = std::getenv("LARDER_SEED");
  const CaseResult result =
      run_case(*run.test_case, run.subject,
               seed == nullptr ? kDefaultSeed : std::strtoull(seed, nullptr, 10));
  for (const std::string& failure : result.failures) ADD_FAILURE() << failure;
  if (!result.skipped.empty()) GTEST_SKIP() << "SKIPPED (" << result.skipped << ")";
}

}  // namespace larder::conformance
