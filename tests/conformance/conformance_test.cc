#include <gtest/gtest.h>

#include "tests/conformance/conformance_runs.h"
#include "tests/conformance/subjects.h"

namespace larder::conformance {
namespace {

class ConnectorConformance : public testing::TestWithParam<Run> {};

TEST_P(ConnectorConformance, Keeps) {
  check_run(GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, ConnectorConformance, testing::ValuesIn(runs_of(all_subjects())),
                         name_of_run);

}  // namespace
}  // namespace larder::conformance
