#include "larder/server/config_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "larder/connectors/builtin.h"
#include "larder/server/read_options.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kGib = std::uint64_t{1} << 30;

ServerOptions options_of(std::vector<std::pair<std::string, std::string>> given) {
  std::vector<Setting> settings;
  for (auto& [name, value] : given) {
    settings.push_back({.row = find_option(name),
                        .values = {std::move(value)},
                        .source = SettingSource::kCommandLine,
                        .where = name});
  }
  auto setup = read_options(std::move(settings), {}, {.registry = &builtin_registry()});
  EXPECT_TRUE(setup.has_value()) << setup.error().text;
  return setup ? std::move(setup->options) : ServerOptions{};
}

TEST(ConfigJsonTest, WhatLmcachesSdkReadsIsThere) {
  const ServerOptions options = options_of({{"l1-size-gb", "1"}, {"chunk-size", "16"}});
  const auto json = config_json(options, "lmcache_l1_pool_golden");
  EXPECT_EQ(json["mp"]["chunk_size"], 16);
  EXPECT_EQ(json["mp"]["shm_name"], "golden");
  EXPECT_EQ(json["storage_manager"]["eviction_config"]["eviction_policy"], "LRU");
  EXPECT_EQ(json["mp"]["separate_object_groups"], false);
  EXPECT_EQ(json["mp"]["worker_reap_timeout_seconds"], 120.0);
  EXPECT_EQ(json["http"]["http_port"], 8080);
  const auto none = config_json(options_of({{"l1-size-gb", "1"}, {"no-http", "true"}}), "");
  EXPECT_EQ(none["mp"]["shm_name"], "");
  EXPECT_TRUE(none["http"].is_null());
  EXPECT_TRUE(json["larder"]["metrics_port"].is_null());
  const auto apart = config_json(options_of({{"l1-size-gb", "1"}, {"metrics-port", "9187"}}), "");
  EXPECT_EQ(apart["larder"]["metrics_port"], 9187);
}

TEST(ConfigJsonTest, MemoryAndPoliciesHaveLmcachesNames) {
  const auto json = config_json(options_of({{"l1-size-gb", "2"},
                                            {"eviction-policy", "ARC"},
                                            {"eviction-trigger-watermark", "0.8"},
                                            {"eviction-ratio", "0.25"},
                                            {"l2-store-policy", "skip_l1"},
                                            {"l2-adapter", "memory:"},
                                            {"l2-prefetch-policy", "retain"},
                                            {"separate-object-groups", "true"}}),
                                "x");
  const auto& storage = json["storage_manager"];
  EXPECT_EQ(storage["l1_manager_config"]["memory_config"]["size_in_bytes"], 2 * kGib);
  EXPECT_EQ(storage["l1_manager_configs"].size(), 1U);
  EXPECT_EQ(storage["eviction_config"]["eviction_policy"], "ARC");
  EXPECT_EQ(storage["eviction_config"]["trigger_watermark"], 0.8);
  EXPECT_NEAR(storage["eviction_config"]["eviction_ratio"].get<double>(), 0.25, 1e-9);
  EXPECT_EQ(storage["store_policy"], "skip_l1");
  EXPECT_EQ(storage["prefetch_policy"], "retain");
  EXPECT_EQ(json["mp"]["separate_object_groups"], true);
  EXPECT_EQ(json["larder"]["object_groups"], "apart");
  EXPECT_TRUE(json["larder"]["quota_default_bytes"].is_null());
}

TEST(ConfigJsonTest, AdaptersAreShownWithoutTheirSecrets) {
  const auto json =
      config_json(options_of({{"l1-size-gb", "1"},
                              {"l2-adapter", "redis://u:geheim@h:1/?store=no&password=geheim"}}),
                  "");
  const auto& adapters = json["storage_manager"]["l2_adapter_config"]["adapters"];
  ASSERT_EQ(adapters.size(), 1U);
  EXPECT_EQ(adapters[0]["type"], "redis");
  EXPECT_EQ(adapters[0]["store"], false);
  EXPECT_EQ(adapters[0]["fill"], "never");
  EXPECT_EQ(json.dump().find("geheim"), std::string::npos) << json.dump(2);
}

}  // namespace
}  // namespace larder::server
