// A process that has hardly any descriptors left: an open is refused with the remedy, or is well.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <memory>
#include <string>

#include "larder/connectors/builtin.h"
#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::faults {
namespace {

using testing::ForkedChild;
using testing::TemporaryDirectory;

constexpr ::rlim_t kDescriptorsMax = 4096;

/// What is wrong with the refusals of `spec`, from no descriptor at all to the first open.
std::string refusals_of(const std::string& spec) {
  std::string wrong;
  for (::rlim_t limit = 0; limit < kDescriptorsMax; ++limit) {
    const rlimit few{.rlim_cur = limit, .rlim_max = kDescriptorsMax};
    if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return "cannot set the limit";
    const auto connector = builtin_registry().open(spec);
    if (connector) {
      const Report report = (*connector)->report();
      if (report.health == Health::kHealthy) return wrong;
      for (const std::string& reason : report.reasons) wrong += reason + "\n";
      return wrong;
    }
    const SetupError& error = connector.error();
    if (error.code != ErrorCode::kResourceExhausted) wrong += error_code_name(error.code);
    if (error.code != ErrorCode::kResourceExhausted ||
        error.text.find("ulimit -n") == std::string::npos) {
      wrong += ": " + error.text + "\n";
    }
  }
  return wrong + "never opened";
}

class FewDescriptorsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FewDescriptorsTest, AnOpenIsRefusedWithTheRemedyOrIsWell) {
  const TemporaryDirectory directory;
  std::string spec = GetParam();
  const std::size_t at = spec.find("DIR");
  if (at != std::string::npos) spec.replace(at, 3, directory.path());
  const ForkedChild child{[&](int) { return refusals_of(spec) + "."; }};
  EXPECT_EQ(child.said(), ".");
}

INSTANTIATE_TEST_SUITE_P(
    Specs, FewDescriptorsTest,
    ::testing::Values("log:DIR/store?capacity=40MiB&segment=1MiB&max_value=64KiB&min_free=0",
                      "fs:DIR/store", "fs:DIR/store?staged=yes",
                      "fs:DIR/store?capacity=64MiB&exclusive=yes", "memory:?capacity=64MiB",
                      "mock:?max_size_gb=0.25&mock_bandwidth_gb=1000"),
    [](const auto& parameter) { return "Spec" + std::to_string(parameter.index); });

}  // namespace
}  // namespace larder::faults
