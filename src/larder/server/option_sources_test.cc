#include "larder/server/option_sources.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "larder/server/options_test_support.h"

namespace larder::server {
namespace {

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "larder_options_" +
            testing::UnitTest::GetInstance()->current_test_info()->name() + ".toml";
  }
  void TearDown() override { std::remove(path_.c_str()); }

  std::string write(const std::string& text) const {
    std::FILE* const file = std::fopen(path_.c_str(), "w");
    EXPECT_NE(file, nullptr);
    if (file == nullptr) return path_;
    std::fputs(text.c_str(), file);
    std::fclose(file);
    return path_;
  }

  std::string path_;
};

TEST_F(ConfigTest, TheCommandLineWinsOverTheEnvironmentAndThatOverTheFile) {
  write("l1_size_gb = 1\nport = 1001\nchunk-size = 16\nl2_adapter = [\"memory:\", \"memory:\"]\n");
  const auto setup =
      read({given("l1-size-gb", {"3"}), given("config", {path_})},
           {{"LARDER_L1_SIZE_GB", "2"}, {"LARDER_PORT", "1002"}, {"LARDER_L2_ADAPTER", "memory:"}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.l1_bytes, 3 * kGib);
  EXPECT_EQ(setup->options.port, 1002);
  EXPECT_EQ(setup->options.chunk_tokens, 16U);
  EXPECT_EQ(setup->options.l2_adapters.size(), 1U);  // The values of one source, not of both.
}

TEST_F(ConfigTest, TheEnvironmentMayNameTheFile) {
  write("l1_size_gb = 0.25\n");
  const auto setup = read({}, {{"LARDER_CONFIG", path_}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.l1_bytes, kGib / 4);
}

TEST_F(ConfigTest, ValuesMayBeNumbersTextsFlagsListsAndTables) {
  write(R"(l1_size_gb = "8GiB"
no_http = true
eviction_trigger_watermark = 0.9
l1_use_lazy = false
l1_devdax_offset_gb = 1
l2_adapter = [
  "memory:?capacity=64MiB&store=no",
  { type = "mock", max_size_gb = 0.5, mock_bandwidth_gb = 1, min_hits = 2 },
]
)");
  const auto setup = read({given("config", {path_})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  const ServerOptions& options = setup->options;
  EXPECT_EQ(options.l1_bytes, 8 * kGib);
  EXPECT_FALSE(options.has_http);
  EXPECT_DOUBLE_EQ(options.engine.high_watermark, 0.9);
  ASSERT_EQ(options.l2_adapters.size(), 2U);
  EXPECT_FALSE(options.l2_adapters[0].options.store);
  EXPECT_EQ(options.l2_adapters[1].spec.type(), "mock");
  EXPECT_EQ(options.l2_adapters[1].options.min_hits, 2U);
  EXPECT_FALSE(options.is_l1_lazy);
  ASSERT_EQ(setup->notices.size(), 1U);
  EXPECT_TRUE(has(setup->notices[0], "line 5: l1_devdax_offset_gb")) << setup->notices[0];
}

TEST_F(ConfigTest, AdaptersMayStandInTablesOfTheirOwn) {
  write(
      "l1_size_gb = 1\n[[l2_adapter]]\ntype = \"memory\"\n[[l2_adapter]]\ntype = \"memory\"\n"
      "load = false\n");
  const auto setup = read({given("config", {path_})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  ASSERT_EQ(setup->options.l2_adapters.size(), 2U);
  EXPECT_FALSE(setup->options.l2_adapters[1].options.load);
}

TEST_F(ConfigTest, ErrorsNameTheFileAndTheLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\nl1_sizegb = 8\n",
       "line 2: l1_sizegb: there is no such setting, did you mean l1_size_gb?"},
      {"xyzzy = 8\n", "there is no such setting; `larder server --help`"},
      {"l1_size_gb = \n", "line 1: no valid TOML"},
      {"l1_size_gb = [1, 2]\n", "line 1: l1_size_gb: is a list; expected one value"},
      {"l1_size_gb = 1979-05-27\n", "expected a text, a number"},
      {"l1_size_gb = 8\nport = \"x\"\n", "line 2: port: \"x\": expected a whole number"},
      {"l1_size_gb = 8\nl1-size-gb = 9\n", "sets the same; leave one out"},
      {"transport = \"grpc\"\nl1_size_gb = 8\n", "line 1: transport grpc: larder speaks ZeroMQ"},
      {"config = \"x\"\n", "a file cannot name another one"},
      {"l2_adapter = \"mmory:\"\nl1_size_gb = 1\n", "line 1: l2_adapter: unknown"},
  };
  for (const auto& [text, expected] : cases) {
    write(text);
    const auto setup = read({given("config", {path_})});
    EXPECT_TRUE(has(error_of(setup), path_)) << error_of(setup);
    EXPECT_TRUE(has(error_of(setup), expected)) << text << error_of(setup);
  }
  const auto missing = read({given("config", {"/none/larder.toml"})});
  EXPECT_EQ(error_of(missing), "--config /none/larder.toml: No such file or directory");
  const auto directory = read({given("config", {"/tmp"})});
  EXPECT_TRUE(has(error_of(directory), "--config /tmp: ")) << error_of(directory);
}

TEST(EnvironmentTest, AnEmptyVariableIsNotSetAndOthersAreLeftAlone) {
  const auto setup = read({given("l1-size-gb", {"1"})}, {{"LARDER_PORT", ""},
                                                         {"LARDER_LOG", "info"},
                                                         {"LARDER_RESP_HOST", "h"},
                                                         {"LARDER_METRICS", "unix:/run/l.sock"},
                                                         {"LARDER_SERVICE_HOST", "10.0.0.1"},
                                                         {"LARDER_PORT_5555_TCP", "tcp://h:1"},
                                                         {"LARDER_ENTIRELY_DIFFERENT", "1"},
                                                         {"L1_SIZE_GB", "9"}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.port, 5555);
  EXPECT_TRUE(setup->notices.empty()) << setup->notices[0];
}

TEST(EnvironmentTest, AMisspelledVariableIsALineOfLog) {
  const auto setup = read({given("l1-size-gb", {"1"})}, {{"LARDER_EVICTION_POLCY", "ARC"}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  ASSERT_EQ(setup->notices.size(), 1U);
  EXPECT_TRUE(has(setup->notices[0], "did you mean LARDER_EVICTION_POLICY?"));
}

TEST(EnvironmentTest, WhatKubernetesSaysOfAServiceIsNoPort) {
  const auto setup = read(
      {given("l1-size-gb", {"1"})},
      {{"LARDER_PORT", "tcp://10.0.0.1:5555"}, {"LARDER_METRICS_PORT", "tcp://10.0.0.2:9187"}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.port, 5555);
  EXPECT_FALSE(setup->options.metrics_port.has_value());
  EXPECT_EQ(setup->notices.size(), 2U);
}

TEST(EnvironmentTest, AdaptersStandOneALine) {
  const auto setup =
      read({}, {{"LARDER_L1_SIZE_GB", "1"}, {"LARDER_L2_ADAPTER", "memory:\nmemory:?store=no\n"}});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.l2_adapters.size(), 2U);
}

TEST(EnvironmentTest, LmcachesOwnVariablesForWhatIsNotThereStopTheStart) {
  for (const std::string name : {"LMCACHE_COORDINATOR_URL", "LMCACHE_API_KEY"}) {
    const auto setup = read({given("l1-size-gb", {"1"})}, {{name, "x"}});
    EXPECT_TRUE(error_of(setup).starts_with(name + " is set: ")) << error_of(setup);
    EXPECT_TRUE(read({given("l1-size-gb", {"1"})}, {{name, ""}}).has_value());
  }
}

}  // namespace
}  // namespace larder::server
