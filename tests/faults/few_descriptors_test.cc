// A process that has hardly any descriptors left: an open is refused with the remedy, or is well,
// and a forced making of a store removes nothing of one that it cannot replace.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/format_store.h"
#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::faults {
namespace {

using testing::ForkedChild;
using testing::TemporaryDirectory;

constexpr ::rlim_t kDescriptorsMax = 4096;
constexpr const char* kLog = "?capacity=40MiB&segment=1MiB&max_value=64KiB&min_free=0";

bool limit_descriptors(::rlim_t limit) {
  const rlimit few{.rlim_cur = limit, .rlim_max = kDescriptorsMax};
  return ::setrlimit(RLIMIT_NOFILE, &few) == 0;
}

/// What is wrong with the refusals of `spec`, from no descriptor at all to the first open.
std::string refusals_of(const std::string& spec) {
  std::string wrong;
  for (::rlim_t limit = 0; limit < kDescriptorsMax; ++limit) {
    if (!limit_descriptors(limit)) return "cannot set the limit";
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
    ::testing::Values(std::string{"log:DIR/store"} + kLog, "fs:DIR/store",
                      "fs:DIR/store?staged=yes", "fs:DIR/store?capacity=64MiB&exclusive=yes",
                      "memory:?capacity=64MiB", "mock:?max_size_gb=0.25&mock_bandwidth_gb=1000"),
    [](const auto& parameter) { return "Spec" + std::to_string(parameter.index); });

// ---- larder format --force --------------------------------------------------------------------

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{path}) {
    names.insert(entry.path().filename());
  }
  return names;
}

/// What is wrong with forced makings of the store in `path`, from no descriptor at all to the first
/// one that has enough, which succeeds, or is refused because a process has the store open.
std::string wrong_of_forced_makes(const std::string& path, bool is_open) {
  const std::set<std::string> before = names_in(path);
  const std::atomic<bool> is_stop_requested = false;
  for (::rlim_t limit = 0; limit < kDescriptorsMax; ++limit) {
    if (!limit_descriptors(limit)) return "cannot set the limit";
    const auto made = tools::format_store(
        {.target = "log:" + path + kLog, .capacity = {}, .is_forced = true}, is_stop_requested);
    if (!limit_descriptors(kDescriptorsMax)) return "cannot set the limit";
    if (made) return is_open ? "an open store was replaced" : "";
    const std::string& text = made.error().text;
    // A store that is open may make files meanwhile.
    if (!std::ranges::includes(names_in(path), before)) return "files went with: " + text;
    if (is_open && text.find("stop that process") != std::string::npos) return "";
    if (made.error().code != ErrorCode::kResourceExhausted ||
        text.find("ulimit -n") == std::string::npos) {
      return "with " + std::to_string(limit) + ": " + text;
    }
  }
  return "never had enough";
}

TEST(FewDescriptorsForMakingTest, AForcedMakeReplacesAStoreOrLeavesAllOfIt) {
  for (const bool is_open : {false, true}) {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/store";
    auto store = builtin_registry().open("log:" + path + kLog);
    ASSERT_TRUE(store.has_value()) << store.error().text;
    {
      BlockingClient client{**store};
      const std::vector<std::byte> value(60'000);
      for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(client.set("key-" + std::to_string(i), value).has_value());
      }
    }
    if (!is_open) {
      ASSERT_TRUE((*store)->stop(kNever).has_value());
      store->reset();
    }
    ASSERT_GT(names_in(path).size(), 5U);
    const ForkedChild child{[&](int) { return wrong_of_forced_makes(path, is_open) + "."; }};
    EXPECT_EQ(child.said(), ".") << is_open;
    if (is_open) {
      EXPECT_TRUE((*store)->stop(kNever).has_value());
    }
  }
}

}  // namespace
}  // namespace larder::faults
