#include "larder/server/l2_adapters.h"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "larder/connectors/builtin.h"

namespace larder::server {
namespace {

SetupResult<std::unique_ptr<Connector>> refuse(const ConnectorType& /*type*/,
                                               const Parameters& /*parameters*/,
                                               const Registry& /*registry*/) {
  return SetupError{ErrorCode::kUnavailable, "not here"};
}

/// The rows of the type `python`, as the extension module adds it.
constexpr std::array kPythonRows = {
    Parameter{.name = "factory", .help = "Which."},
    Parameter{.name = "name", .help = "As written.", .is_required = true},
    Parameter{.name = "arguments", .help = "What.", .is_required = true, .is_secret = true},
};
constexpr ConnectorType kPython{.name = "python",
                                .summary = "In Python.",
                                .example = "python:a:B",
                                .location_parameter = "factory",
                                .parameters = kPythonRows,
                                .open = refuse};

const Registry& registry_with_python() {
  static const Registry registry = [] {
    Registry all = builtin_registry();
    all.add(kPython);
    return all;
  }();
  return registry;
}

SetupResult<ReadAdapter> read(std::string_view text) {
  return read_l2_adapter(text, true, {.registry = &builtin_registry()});
}

std::string error_of(const SetupResult<ReadAdapter>& adapter) {
  return adapter ? "no error" : adapter.error().text;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string parameter(const ReadAdapter& read, std::string_view name) {
  const auto found = read.adapter.spec.parameters().find(name);
  return found == read.adapter.spec.parameters().end() ? "(none)" : found->second;
}

TEST(L2AdapterTest, AUrlAndJsonAreTheSame) {
  const auto url =
      read("log:/data/kv?capacity=200GiB&store=no&min_hits=2&fill=second_hit&touch=no");
  ASSERT_TRUE(url.has_value()) << url.error().text;
  EXPECT_FALSE(url->adapter.options.store);
  EXPECT_TRUE(url->adapter.options.load);
  EXPECT_FALSE(url->adapter.options.touch);
  EXPECT_EQ(url->adapter.options.min_hits, 2U);
  EXPECT_EQ(url->adapter.options.fill, cache::Fill::kSecondHit);
  EXPECT_EQ(parameter(*url, "store"), "(none)");
  EXPECT_EQ(parameter(*url, "capacity"), "200GiB");
  const auto json = read(R"( {"type": "log", "": "/data/kv", "capacity": "200GiB",
      "store": false, "min_hits": 2, "fill": "second_hit", "touch": false})");
  ASSERT_TRUE(json.has_value()) << json.error().text;
  EXPECT_EQ(json->adapter.spec, url->adapter.spec);
  EXPECT_EQ(json->adapter.options.min_hits, 2U);
  EXPECT_FALSE(json->adapter.options.store);
  EXPECT_FALSE(json->adapter.options.touch);
  EXPECT_TRUE(read("memory:")->adapter.options.touch);
}

TEST(L2AdapterTest, AParameterThatTheConnectorHasItselfIsTheConnectors) {
  const auto tiered = read("tiered:?l1=1GiB&l2=memory:&store=no");
  ASSERT_TRUE(tiered.has_value()) << tiered.error().text;
  EXPECT_TRUE(tiered->adapter.options.store);
  EXPECT_EQ(parameter(*tiered, "store"), "no");
  const auto json = read(R"({"type": "tiered", "l2": {"type": "memory"}, "load": "yes"})");
  ASSERT_TRUE(json.has_value()) << json.error().text;
  EXPECT_EQ(parameter(*json, "load"), "yes");
}

TEST(L2AdapterTest, LmcachesOwnTypesAreRead) {
  for (const std::string_view text :
       {R"({"type": "fs", "base_path": "/data/l2", "use_odirect": false})",
        R"({"type": "fs_native", "base_path": "/data/l2", "num_workers": 8,
            "relative_tmp_dir": "tmp", "max_capacity_gb": 1.5, "read_ahead_size": 65536})",
        R"({"type": "resp", "host": "h", "port": 6379, "num_workers": 8, "username": "u",
            "password": "geheim", "max_capacity_gb": 20})",
        R"({"type": "mock", "max_size_gb": 0.5, "mock_bandwidth_gb": 10})",
        R"({"type": "fault_inject", "inner": {"type": "memory"}, "rate": 0.1})",
        R"({"type": "fs", "base_path": "/d", "persist_enabled": true, "shared": true,
            "affinity_tag": "_default", "eviction": null, "serde": null})"}) {
    const auto adapter = read(text);
    ASSERT_TRUE(adapter.has_value()) << text << adapter.error().text;
    EXPECT_TRUE(adapter->notices.empty()) << text;
    EXPECT_FALSE(has(adapter->adapter.shown, "geheim")) << adapter->adapter.shown;
  }
}

TEST(L2AdapterTest, LmcachesValkeyIsOneServerOfLarders) {
  const auto adapter = read(R"({"type": "valkey", "startup_nodes": "h:6380,other:1",
      "cluster_mode": false, "key_prefix": "team", "num_workers": 4, "tls_enable": true,
      "database_id": 2, "request_timeout": 5.0, "ttl_seconds": null, "username": ""})");
  ASSERT_TRUE(adapter.has_value()) << adapter.error().text;
  EXPECT_EQ(parameter(*adapter, "host"), "h");
  EXPECT_EQ(parameter(*adapter, "port"), "6380");
  EXPECT_EQ(parameter(*adapter, "prefix"), "team@");
  EXPECT_EQ(parameter(*adapter, "tls"), "true");
  EXPECT_EQ(parameter(*adapter, "database"), "2");
  EXPECT_EQ(parameter(*adapter, "timeout"), "5.0s");
  EXPECT_EQ(parameter(*adapter, "ttl"), "(none)");
  EXPECT_EQ(adapter->notices.size(), 1U);
  EXPECT_TRUE(has(error_of(read(R"({"type": "valkey", "startup_nodes": "h:1",
      "cluster_mode": true})")),
                  "not to a cluster"));
  EXPECT_TRUE(has(error_of(read(R"({"type": "valkey", "startup_nodes": "h"})")), "HOST:PORT"));
}

TEST(L2AdapterTest, AnEvictionBlockIsTheCapacitysOwnOrAnError) {
  const std::string block = R"("eviction": {"eviction_policy": "LRU", "trigger_watermark": 0.9}})";
  const auto bounded =
      read(R"({"type": "fs_native", "base_path": "/d", "max_capacity_gb": 5, )" + block);
  ASSERT_TRUE(bounded.has_value()) << bounded.error().text;
  EXPECT_EQ(parameter(*bounded, "max_capacity_gb"), "5");
  ASSERT_EQ(bounded->notices.size(), 1U);
  EXPECT_TRUE(has(bounded->notices[0], "evicts by itself when its capacity is reached"));
  // A log has a capacity whether or not it is given again.
  EXPECT_TRUE(read(R"({"type": "log", "path": "/d", )" + block).has_value());
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"type": "fs", "base_path": "/d", )" + block, "add \"max_capacity_gb\""},
      {R"({"type": "fs", "base_path": "/d", "max_capacity_gb": 0, )" + block, "add \"max_cap"},
      {R"({"type": "resp", "host": "h", )" + block, "maxmemory"},
      {R"({"type": "memory", "eviction": {"eviction_policy": "LUR"}})", "did you mean LRU?"},
      {R"({"type": "memory", "eviction": {"eviction_policy": "IsolatedLRU"}})", "cache_salt"},
      {R"({"type": "memory", "eviction": {"eviction_policy": "LRU", "watermark": 1}})",
       "\"watermark\"; expected eviction_policy"},
      {R"({"type": "memory", "eviction": {}})", "eviction_policy must be"},
      {R"({"type": "memory", "eviction": "LRU"})", "expected an object"},
  };
  for (const auto& [text, expected] : cases) {
    const auto adapter = read(text);
    EXPECT_TRUE(has(error_of(adapter), expected)) << text << "\n" << error_of(adapter);
  }
}

TEST(L2AdapterTest, WhatLarderDoesNotHaveSaysWhatToUse) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"type": "raw_block", "device_path": "/dev/nvme1n1", "slot_bytes": 4096})", "log:PATH"},
      {R"({"type": "dax", "device_path": "/dev/dax0.0"})", "log:PATH"},
      {R"({"type": "s3", "s3_endpoint": "s3://b"})", "redis://HOST:PORT"},
      {R"({"type": "nixl_native", "backend": "POSIX", "backend_params": {"file_path": "/d"}})",
       "NIXL"},
      {R"({"type": "mooncake_store"})", "redis://HOST:PORT"},
      {R"({"type": "p2p", "peer_mq_server_url": "u"})", "share"},
      {"raw_block:/dev/nvme1n1", "log:PATH"},
      {R"({"type": "memory", "serde": {"type": "fp8"}})", "leave it out"},
      {R"({"type": "memory", "affinity_tag": "fast"})", "leave it out"},
      {R"({"type": "mmory"})", "did you mean 'memory'?"},
      {"mmory:", "did you mean 'memory'?"},
      {R"({"type": "memory", "capacty": 1})", "did you mean 'capacity'?"},
      {"memory:?min_hits=-1", "min_hits: expected"},
      {"memory:?load=maybe", "load: "},
      {"memory:?touch=maybe", "touch: "},
      {"memory:?load=no&store=no", "leave the adapter out"},
      {R"({"type": "memory", "fill": "sometimes"})", "never, second_hit or always"},
      {R"({"type": "memory", "load": [1]})", "expected a text"},
      {R"({"type": "memory", "load": true, "load": true})", "\"load\" is given twice"},
      {R"({"typ": "memory"})", "type"},
      {R"(["memory"])", "expected"},
      {R"({"type": "memory")", "not valid JSON"},
      {"{\"type\": \"memory\", \"x\": " + std::string(20, '[') + std::string(20, ']') + "}",
       "deep"},
      {"python:module:Class",
       "no Python interpreter; start it from the Python package instead: python -m larder"},
  };
  for (const auto& [text, expected] : cases) {
    const auto adapter = read(text);
    ASSERT_FALSE(adapter.has_value()) << text;
    EXPECT_TRUE(has(error_of(adapter), expected)) << text << "\n" << error_of(adapter);
  }
}

TEST(L2AdapterTest, NoErrorShowsAPassword) {
  for (const std::string_view text :
       {R"({"type": "resp", "host": "h", "password": "geheim", "prot": 1})",
        R"({"type": "resp", "password": "geheim)", "redis://u:geheim@h:1?x=geheim",
        R"({"type": "native_plugin", "module_path": "m", "class_name": "C",
            "adapter_params": {"password": "geheim"}})",
        R"({"type": "s3", "aws_secret_access_key": "geheim"})"}) {
    const auto adapter = read(text);
    ASSERT_FALSE(adapter.has_value()) << text;
    EXPECT_FALSE(has(error_of(adapter), "geheim")) << error_of(adapter);
  }
}

// ---- Plugins ------------------------------------------------------------------------------------

TEST(PluginTest, LardersOwnClassesAreTheSpecThatTheyName) {
  const auto connector = read(R"({"type": "native_plugin", "module_path": "larder.lmcache",
      "class_name": "Connector", "max_capacity_gb": 5, "store": "no",
      "adapter_params": {"url": "log:/data/kv?capacity=500GiB", "load_timeout": 30}})");
  ASSERT_TRUE(connector.has_value()) << connector.error().text;
  EXPECT_EQ(connector->adapter.spec.type(), "log");
  EXPECT_EQ(parameter(*connector, "capacity"), "500GiB");
  EXPECT_FALSE(connector->adapter.options.store);
  EXPECT_EQ(connector->notices.size(), 2U);
  const auto adapter = read(R"({"type": "plugin", "module_path": "larder.lmcache",
      "class_name": "L2Adapter", "adapter_params": {"type": "log", "path": "/data/kv",
      "capacity": "500GiB", "evict": "larder"}})");
  ASSERT_TRUE(adapter.has_value()) << adapter.error().text;
  EXPECT_EQ(parameter(*adapter, "path"), "/data/kv");
  const auto beside = read(R"({"type": "native_plugin", "module_path": "larder.lmcache",
      "class_name": "Connector", "adapter_params": {"url": "log:/data/kv", "capacity": "1GiB"}})");
  ASSERT_TRUE(beside.has_value()) << beside.error().text;
  EXPECT_EQ(parameter(*beside, "capacity"), "1GiB");
}

std::string plugin(const std::string& rest) {
  return R"({"type": "native_plugin", "module_path": "larder.lmcache", "class_name": "Connector")" +
         rest + "}";
}

TEST(PluginTest, WhatCannotBeReadIsAnError) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {plugin(""), "must have a \"url\""},
      {plugin(R"(, "adapter_params": [])"), "expected an object"},
      {plugin(R"(, "adapter_params": {"url": "memory:?capacity=1GiB", "capacity": "2GiB"})"),
       "given in \"url\" and beside it"},
      {plugin(R"(, "adapter_params": {"url": "memory:", "evict": "lmcache"})"), "leave it out"},
      {plugin(R"(, "adapter_params": {"url": "memory:", "capacty": 1})"), "did you mean"},
      {plugin(R"(, "adapter_parms": {})"), "\"adapter_parms\" is not known"},
      {plugin(R"(, "config_class_name": "C")"), "keyword arguments"},
      {R"({"type": "plugin", "module_path": "m"})", "must name a class of Python"},
      {R"({"type": "plugin", "module_path": "m", "class_name": "C"})",
       "python -m larder server, with the same options"},
  };
  for (const auto& [text, expected] : cases) {
    const auto adapter = read(text);
    EXPECT_TRUE(has(error_of(adapter), expected)) << text << "\n" << error_of(adapter);
  }
}

TEST(PluginTest, ClassesOfOthersAreConnectorsInPythonWithTheirArgumentsAsTheyAre) {
  const auto adapter = read_l2_adapter(
      R"({"type": "native_plugin", "module_path": "my.store", "class_name": "Client",
          "adapter_params": {"port": 6379, "nested": {"a": [1.5, null]}}, "min_hits": 1})",
      true, {.registry = &registry_with_python()});
  ASSERT_TRUE(adapter.has_value()) << adapter.error().text;
  EXPECT_EQ(adapter->adapter.spec.type(), "python");
  EXPECT_EQ(parameter(*adapter, "factory"), "my.store:Client");
  const auto arguments = nlohmann::json::parse(parameter(*adapter, "arguments"));
  EXPECT_EQ(arguments["port"], 6379);
  EXPECT_EQ(arguments["nested"]["a"][0], 1.5);
  EXPECT_EQ(adapter->adapter.options.min_hits, 1U);
}

TEST(PluginTest, CodeIsNotTakenFromTheEnvironment) {
  const ConnectorSource source{.registry = &registry_with_python(),
                               .resolve = [](std::string_view text) { return Spec::parse(text); }};
  for (const std::string_view text :
       {R"({"type": "native_plugin", "module_path": "m", "class_name": "C"})", "python:m:C?name=x",
        "mystore:/data/kv", "tiered:?l2=python:m:C", "fault:?inner=tiered:%3Fl2%3Dmystore:"}) {
    const auto adapter = read_l2_adapter(text, false, source);
    EXPECT_TRUE(has(error_of(adapter), "on the command line and in the configuration file only"))
        << text << error_of(adapter);
  }
  EXPECT_TRUE(read_l2_adapter("memory:", false, source).has_value());
  EXPECT_TRUE(read_l2_adapter("fault:?inner=memory:", false, source).has_value());
}

TEST(PluginTest, ASpecIsResolvedWhereTheProcessHasPython) {
  std::vector<std::string> asked;
  const ConnectorSource source{.registry = &registry_with_python(),
                               .resolve = [&](std::string_view text) -> SetupResult<Spec> {
                                 asked.emplace_back(text);
                                 return Spec::parse("memory:?capacity=1GiB");
                               }};
  const auto adapter = read_l2_adapter("mystore:/data/kv?x=1&load=no", true, source);
  ASSERT_TRUE(adapter.has_value()) << adapter.error().text;
  EXPECT_EQ(asked, std::vector<std::string>{"mystore:/data/kv?x=1"});
  EXPECT_EQ(adapter->adapter.spec.type(), "memory");
  EXPECT_FALSE(adapter->adapter.options.load);
}

}  // namespace
}  // namespace larder::server
