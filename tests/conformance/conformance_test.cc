#include "tests/conformance/conformance.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/conformance/subjects.h"

namespace larder::conformance {
namespace {

struct Pair {
  const Case* test_case = nullptr;
  Subject subject;
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's.
void PrintTo(const Pair& run, std::ostream* out) {
  *out << run.test_case->rule;
}

std::vector<Pair> all_runs() {
  std::vector<Pair> runs;
  for (const Subject& subject : all_subjects()) {
    for (const Case& test_case : conformance_cases()) {
      if (applies(test_case, subject)) runs.push_back({&test_case, subject});
    }
  }
  return runs;
}

/// LARDER_SEED replays what a failure printed.
std::uint64_t seed() {
  const char* const text = std::getenv("LARDER_SEED");
  return text == nullptr ? kDefaultSeed : std::strtoull(text, nullptr, 10);
}

class ConnectorConformance : public testing::TestWithParam<Pair> {};

TEST_P(ConnectorConformance, Keeps) {
  const Pair& run = GetParam();
  const CaseResult result = run_case(*run.test_case, run.subject, seed());
  for (const std::string& failure : result.failures) ADD_FAILURE() << failure;
  if (!result.skipped.empty()) GTEST_SKIP() << "SKIPPED (" << result.skipped << ")";
}

INSTANTIATE_TEST_SUITE_P(All, ConnectorConformance, testing::ValuesIn(all_runs()),
                         [](const testing::TestParamInfo<Pair>& pair) {
                           return pair.param.subject.name + "_" +
                                  std::string{pair.param.test_case->name};
                         });

}  // namespace
}  // namespace larder::conformance
