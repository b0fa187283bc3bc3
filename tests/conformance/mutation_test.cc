#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/conformance/broken_connector.h"

namespace larder::conformance {
namespace {

class ConformanceMutation : public testing::TestWithParam<Defect> {};

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
