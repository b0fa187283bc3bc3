// Every later version opens the stores that earlier ones wrote, and finds every value.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "larder/base/logging.h"
#include "larder/connector/blocking_client.h"
#include "larder/connector/metrics.h"
#include "larder/connectors/builtin.h"
#include "tests/golden/golden_store.h"
#include "tests/support/temporary_directory.h"

namespace larder::testing {
namespace {

class LogGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  LogGoldenTest() {
    set_log_level(LogLevel::kError);
    const std::string golden = std::string{LARDER_GOLDEN_DIRECTORY} + "/log_" + GetParam();
    const auto unpacked = unpack_store(golden, store_);
    EXPECT_TRUE(unpacked.has_value()) << unpacked.error().text;
    auto manifest = read_manifest(golden + "/manifest.txt");
    EXPECT_TRUE(manifest.has_value()) << manifest.error().text;
    if (manifest) manifest_ = std::move(*manifest);
  }

  std::unique_ptr<Connector> open(const std::string& capacity = "32MiB") const {
    auto connector = builtin_registry().open("log:" + store_ + "?max_value=128KiB&min_free=0" +
                                             "&capacity=" + capacity);
    if (!connector) ADD_FAILURE() << connector.error().text;
    return connector ? std::move(*connector) : nullptr;
  }
  void expect_all(Connector& connector) const {
    BlockingClient client{connector};
    std::uint64_t hits = 0;
    for (const auto& [key, expected] : manifest_) {
      const auto found = client.get(key);
      ASSERT_TRUE(found.has_value()) << key << ": " << found.error().to_string();
      ASSERT_EQ(found->has_value(), expected.has_value()) << key;
      if (!expected) continue;
      ++hits;
      EXPECT_EQ(**found, golden_value(key, *expected)) << key;
    }
    EXPECT_EQ(connector.report().keys, hits);
  }
  static std::uint64_t counter(const Connector& connector, const std::string& name) {
    const Report report = connector.report();
    const auto value = metric_value(report, name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }

  TemporaryDirectory directory_;
  const std::string store_ = directory_.path() + "/store";
  GoldenManifest manifest_;
};

TEST_P(LogGoldenTest, EveryKeyAndValueIsAsTheManifestSays) {
  ASSERT_GE(manifest_.size(), 28U);
  EXPECT_GE(std::ranges::count_if(manifest_, [](const auto& one) { return !one.second; }), 2);
  const auto connector = open();
  ASSERT_NE(connector, nullptr);
  EXPECT_EQ(connector->report().health, Health::kHealthy);
  expect_all(*connector);
  EXPECT_TRUE(connector->stop(kNever).has_value());
}

TEST_P(LogGoldenTest, ItOpensByItsDirectoryAloneAndRemembersFromThenOn) {
  for (int i = 0; i < 2; ++i) {
    const auto connector = builtin_registry().open("log:" + store_);
    ASSERT_TRUE(connector.has_value()) << connector.error().text;
    EXPECT_EQ((*connector)->report().capacity_bytes, std::uint64_t{32} << 20);
    expect_all(**connector);
    EXPECT_TRUE((*connector)->stop(kNever).has_value());
  }
}

TEST_P(LogGoldenTest, TablesAreUsedWhereTheyCountAndGrainsWhereTheyDoNot) {
  const auto connector = open();
  ASSERT_NE(connector, nullptr);
  if (GetParam().ends_with("clean")) {
    EXPECT_EQ(counter(*connector, "recovered_by_scan"), 0U);
  } else {
    EXPECT_GT(counter(*connector, "recovered_by_scan"), 0U);
    EXPECT_LT(counter(*connector, "recovered_by_scan"), counter(*connector, "recovered_records"));
  }
  EXPECT_EQ(counter(*connector, "segments_set_aside"), 0U);
  EXPECT_TRUE(connector->stop(kNever).has_value());
}

TEST_P(LogGoldenTest, TheStoreGoesOnAndIsOpenedAgain) {
  {
    const auto connector = open();
    ASSERT_NE(connector, nullptr);
    BlockingClient client{*connector};
    for (auto& [key, value] : manifest_) {
      if (key.starts_with("large-")) {
        value = GoldenValue{.version = 9, .bytes = 60'001};
        ASSERT_TRUE(client.set(key, golden_value(key, *value)).has_value());
      } else if (key.size() == 1024) {
        value.reset();
        ASSERT_TRUE(client.remove(key).has_value());
      }
    }
    expect_all(*connector);
    EXPECT_TRUE(connector->stop(kNever).has_value());
  }
  const auto connector = open("64MiB");
  ASSERT_NE(connector, nullptr);
  expect_all(*connector);
  EXPECT_TRUE(connector->stop(kNever).has_value());
}

INSTANTIATE_TEST_SUITE_P(Stores, LogGoldenTest,
                         ::testing::Values("v1/clean", "v1/killed", "v2/clean", "v2/killed"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '/', '_');
                           return name;
                         });

}  // namespace
}  // namespace larder::testing
