#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/conformance/broken_connector.h"
#include "tests/conformance/conformance.h"

namespace larder::conformance {
namespace {

Subject broken_subject(Defect defect) {
  const auto opener = [defect](std::uint64_t capacity_bytes, std::uint64_t batches_max,
                               std::uint64_t bytes_max) -> Open {
    return [=]() -> SetupResult<std::unique_ptr<Connector>> {
      return make_broken_connector(defect, capacity_bytes, batches_max, bytes_max);
    };
  };
  Subject subject;
  subject.name = name_of(defect);
  subject.open = opener(256U << 20, 4096, std::uint64_t{4} << 30);
  subject.open_small = opener(1U << 20, 4096, std::uint64_t{4} << 30);
  subject.open_limited = opener(256U << 20, kLimitedBatches, kLimitedBytes);
  // A lost batch is waited for in many cases; memory answers at once.
  subject.patience_ns = 50'000'000;
  return subject;
}

class ConformanceMutation : public testing::TestWithParam<Defect> {};

/// The first case that fails, with what it says; empty when none does.
std::string first_failure(const Subject& subject) {
  for (const Case& test_case : conformance_cases()) {
    if (!applies(test_case, subject)) continue;
    const CaseResult result = run_case(test_case, subject);
    if (!result.failures.empty()) {
      return std::string{test_case.name} + ": " + result.failures.front();
    }
  }
  return {};
}

TEST_P(ConformanceMutation, IsFound) {
  const std::string failure = first_failure(broken_subject(GetParam()));
  RecordProperty("failure", failure);
  if (GetParam() == Defect::kNone) {
    EXPECT_EQ(failure, "");
  } else {
    EXPECT_NE(failure, "") << "the suite does not notice this defect";
  }
}

std::vector<Defect> all_defects() {
  std::vector<Defect> defects;
  for (int i = 0; i < static_cast<int>(Defect::kCount); ++i) {
    defects.push_back(static_cast<Defect>(i));
  }
  return defects;
}

INSTANTIATE_TEST_SUITE_P(All, ConformanceMutation, testing::ValuesIn(all_defects()),
                         [](const testing::TestParamInfo<Defect>& defect) {
                           return std::string{name_of(defect.param)};
                         });

}  // namespace
}  // namespace larder::conformance
