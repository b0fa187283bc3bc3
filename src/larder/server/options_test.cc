#include "larder/server/options.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "larder/server/option_values.h"
#include "larder/server/options_test_support.h"
#include "larder/server/read_options.h"

namespace larder::server {
namespace {

TEST(OptionsTest, TheDefaultsAreValidOnceL1HasASize) {
  const auto nothing = read({});
  ASSERT_FALSE(nothing.has_value());
  EXPECT_TRUE(has(nothing.error().text, "--l1-size-gb is missing")) << nothing.error().text;
  const auto setup = read({given("l1-size-gb", {"0.5"})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.l1_bytes, kGib / 2);
  EXPECT_TRUE(setup->notices.empty());
}

TEST(OptionsTest, EveryDefaultTextIsTheDefault) {
  // The default in the help is the real one: setting it changes nothing.
  const ServerOptions fresh;
  for (const OptionRow& row : option_rows()) {
    if (row.default_text.empty()) continue;
    OptionDraft draft;
    ASSERT_NE(row.set, nullptr) << row.name;
    ASSERT_TRUE(row.set(draft, row.default_text).has_value()) << row.name;
    const ServerOptions& set = draft.options;
    EXPECT_EQ(set.host, fresh.host);
    EXPECT_EQ(set.port, fresh.port);
    EXPECT_EQ(set.http_host, fresh.http_host);
    EXPECT_EQ(set.http_port, fresh.http_port);
    EXPECT_EQ(set.chunk_tokens, fresh.chunk_tokens);
    EXPECT_EQ(set.hash_memory_bytes, fresh.hash_memory_bytes);
    EXPECT_EQ(set.null_block_id, fresh.null_block_id);
    EXPECT_EQ(set.l1_align_bytes, fresh.l1_align_bytes);
    EXPECT_EQ(set.transfer_mode, fresh.transfer_mode);
    EXPECT_EQ(set.worker_reap_ns, fresh.worker_reap_ns);
    EXPECT_EQ(set.worker_grace_ns, fresh.worker_grace_ns);
    EXPECT_EQ(set.drain_ns, fresh.drain_ns);
    EXPECT_EQ(set.engine.read_ttl_ns, fresh.engine.read_ttl_ns);
    EXPECT_EQ(set.engine.write_ttl_ns, fresh.engine.write_ttl_ns);
    EXPECT_EQ(set.engine.session_ttl_ns, fresh.engine.session_ttl_ns);
    EXPECT_EQ(set.engine.load_timeout_ns, fresh.engine.load_timeout_ns);
    EXPECT_EQ(set.engine.skip_l1, fresh.engine.skip_l1);
    EXPECT_EQ(set.engine.promote, fresh.engine.promote);
    EXPECT_EQ(cache::find_promote("none").value(), fresh.engine.promote);
  }
}

TEST(OptionsTest, TheTableIsWellFormed) {
  std::set<std::string> names;
  for (const OptionRow& row : option_rows()) {
    const std::string name{row.name};
    EXPECT_TRUE(names.insert(name).second) << name << " stands twice";
    EXPECT_TRUE(row.help.ends_with('.')) << name << ": the help must be a sentence";
    const bool is_flag = row.shape == OptionShape::kFlag || row.shape == OptionShape::kSwitch;
    EXPECT_EQ(is_flag, row.value.empty()) << name;
    EXPECT_EQ(row.use == OptionUse::kHonoured, !row.group.empty()) << name;
    EXPECT_TRUE(row.use == OptionUse::kHonoured || row.set == nullptr) << name;
    EXPECT_EQ(find_option(name)->help, row.help) << name;
  }
  EXPECT_EQ(key_of(*find_option("l1-size-gb")), "l1_size_gb");
  EXPECT_EQ(variable_of(*find_option("l1-size-gb")), "LARDER_L1_SIZE_GB");
}

TEST(OptionsTest, EveryOptionOfLmcacheIsKnown) {
  // From the usage of `lmcache server` 0.5.6, and the additions of 0.5.7.
  for (const std::string_view name : {"instance-id",
                                      "transport",
                                      "host",
                                      "port",
                                      "chunk-size",
                                      "null-block-id",
                                      "max-workers",
                                      "max-gpu-workers",
                                      "max-cpu-workers",
                                      "grpc-server-workers",
                                      "hash-algorithm",
                                      "engine-type",
                                      "supported-transfer-mode",
                                      "isolated-ipc",
                                      "runtime-plugin-locations",
                                      "runtime-plugin-config",
                                      "shm-name",
                                      "script-allowed-imports",
                                      "run-script-api-enabled",
                                      "separate-object-groups",
                                      "worker-reap-timeout-seconds",
                                      "session-ttl-seconds",
                                      "worker-registration-grace-seconds",
                                      "enable-segmented-prefix",
                                      "enable-dedup-content",
                                      "enable-blend-reorder",
                                      "enable",
                                      "server-module",
                                      "p2p-advertise-url",
                                      "p2p-listen-url",
                                      "p2p-lookup-timeout",
                                      "p2p-load-timeout",
                                      "p2p-transfer-engine",
                                      "l1-manager",
                                      "l1-size-gb",
                                      "l1-use-lazy",
                                      "l1-init-size-gb",
                                      "l1-align-bytes",
                                      "l1-use-hugepages",
                                      "l1-devdax-path",
                                      "gds-l1-path",
                                      "gds-l1-use-direct-io",
                                      "gds-l1-backend",
                                      "l1-write-ttl-seconds",
                                      "l1-read-ttl-seconds",
                                      "eviction-policy",
                                      "eviction-trigger-watermark",
                                      "eviction-ratio",
                                      "l2-store-policy",
                                      "l2-prefetch-policy",
                                      "l2-prefetch-max-in-flight",
                                      "periodic-notifier-interval-ms",
                                      "l2-adapter",
                                      "http-host",
                                      "http-port",
                                      "disable-observability",
                                      "disable-metrics",
                                      "disable-grpc-metrics",
                                      "disable-logging",
                                      "enable-tracing",
                                      "otlp-endpoint",
                                      "event-bus-queue-size",
                                      "prometheus-port",
                                      "metrics-sample-rate",
                                      "lookup-hash-log-dir",
                                      "lookup-hash-log-rotation-interval",
                                      "lookup-hash-log-rotation-max-size",
                                      "lookup-hash-log-max-files",
                                      "enable-gc-monitor",
                                      "gc-monitor-min-pause-ms",
                                      "gc-monitor-top-objects",
                                      "enable-extra-logging",
                                      "extra-logging-interval",
                                      "trace-level",
                                      "trace-output",
                                      "coordinator-url",
                                      "coordinator-advertise-ip",
                                      "coordinator-heartbeat-interval",
                                      "coordinator-event-reporting",
                                      "coordinator-event-flush-interval",
                                      "coordinator-event-transport",
                                      "coordinator-kafka-bootstrap-servers",
                                      "coordinator-kafka-topic",
                                      "coordinator-kafka-delivery-timeout",
                                      "coordinator-blend-timeout",
                                      "coordinator-blend-match-concurrency",
                                      "format",
                                      "output",
                                      "quiet",
                                      "api-key-file",
                                      "http-api-key-file",
                                      "grpc-server-mode",
                                      "kv-load-policy",
                                      "l2-prefetch-inflight-watermark",
                                      "enable-token-trace",
                                      "l1-devdax-offset-gb",
                                      "l1-mlock"}) {
    EXPECT_NE(find_option(name), nullptr) << name;
  }
}

TEST(OptionsTest, ValuesBecomeFields) {
  const auto setup = read({given("l1-size-gb", {"32GiB"}),
                           given("host", {"0.0.0.0"}),
                           given("port", {"0"}),
                           given("no-http", {"true"}),
                           given("chunk-size", {"16"}),
                           given("null-block-id", {"-1"}),
                           given("hash-memory", {"0"}),
                           given("shm-name", {"golden"}),
                           given("eviction-policy", {"s3fifo"}),
                           given("l2-adapter", {"memory:"}),
                           given("l2-store-policy", {"skip_l1"}),
                           given("l2-prefetch-policy", {"second_hit"}),
                           given("l1-read-ttl-seconds", {"1.5"}),
                           given("session-ttl-seconds", {"10m"}),
                           given("worker-reap-timeout-seconds", {"30"}),
                           given("quota-default-gb", {"2"}),
                           given("l1-init-size-gb", {"1"}),
                           given("l1-use-lazy", {"false"}),
                           given("quota-file", {"/data/quotas.json"}),
                           given("separate-object-groups", {"false"}),
                           given("supported-transfer-mode", {"engine_driven"}),
                           given("drain-seconds", {"0"}),
                           given("metrics-host", {"0.0.0.0"}),
                           given("metrics-port", {"9187"}),
                           given("no-lmcache-metrics", {"true"})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  const ServerOptions& options = setup->options;
  EXPECT_EQ(options.l1_bytes, 32 * kGib);
  EXPECT_EQ(options.host, "0.0.0.0");
  EXPECT_EQ(options.port, 0);
  EXPECT_FALSE(options.has_http);
  EXPECT_EQ(options.chunk_tokens, 16U);
  EXPECT_EQ(options.null_block_id, -1);
  EXPECT_EQ(options.hash_memory_bytes, 0U);
  EXPECT_EQ(pool_name(options, 7), "lmcache_l1_pool_golden");
  EXPECT_EQ(options.engine.policy, "S3-FIFO");
  EXPECT_TRUE(options.engine.skip_l1);
  EXPECT_EQ(options.engine.promote, cache::Promote::kSecondHit);
  EXPECT_EQ(options.engine.read_ttl_ns, 3 * kSecond / 2);
  EXPECT_EQ(options.engine.session_ttl_ns, 600 * kSecond);
  EXPECT_EQ(options.worker_reap_ns, 30 * kSecond);
  EXPECT_EQ(options.engine.default_quota.limit_bytes, 2 * kGib);
  EXPECT_EQ(options.l1_ahead_bytes, kGib);
  EXPECT_FALSE(options.is_l1_lazy);
  EXPECT_EQ(options.quota_file, "/data/quotas.json");
  EXPECT_EQ(options.object_groups, ObjectGroups::kTogether);
  EXPECT_EQ(options.transfer_mode, TransferMode::kEngineDriven);
  EXPECT_EQ(options.drain_ns, 0U);
  EXPECT_EQ(options.metrics_host, "0.0.0.0");
  EXPECT_EQ(options.metrics_port, 9187);
  EXPECT_FALSE(options.has_lmcache_metrics);
}

TEST(OptionsTest, WhoMayChangeStateIsOneOfTwo) {
  const auto open = read({given("l1-size-gb", {"1"}), given("admin-open", {"true"})});
  ASSERT_TRUE(open.has_value()) << open.error().text;
  EXPECT_TRUE(open->options.is_admin_open);
  const auto token = read_with("admin-token-file", "/run/token");
  ASSERT_TRUE(token.has_value()) << token.error().text;
  EXPECT_EQ(token->options.admin_token_file, "/run/token");
  EXPECT_FALSE(token->options.is_admin_open);
  const auto both = read({given("l1-size-gb", {"1"}), given("admin-open", {"true"}),
                          given("admin-token-file", {"/run/token"})});
  EXPECT_TRUE(has(error_of(both), "exclude each other")) << error_of(both);
  const auto nowhere =
      read({given("l1-size-gb", {"1"}), given("admin-open", {"true"}), given("no-http", {"true"})});
  EXPECT_TRUE(has(error_of(nowhere), "--no-http")) << error_of(nowhere);
}

TEST(OptionsTest, MetricsHaveNoPortOfTheirOwnUnlessOneIsGiven) {
  const auto setup = read({given("l1-size-gb", {"1"}), given("prometheus-port", {"9090"}),
                           given("disable-metrics", {"true"})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_FALSE(setup->options.metrics_port.has_value());
  EXPECT_TRUE(setup->options.has_lmcache_metrics);
  EXPECT_EQ(setup->notices.size(), 2U) << "LMCache's options are accepted with a line of log";
  const auto nowhere =
      read({given("l1-size-gb", {"1"}), given("metrics-port", {"0"}), given("metrics-host", {""})});
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_TRUE(has(nowhere.error().text, "--metrics-host is empty")) << nowhere.error().text;
}

TEST(OptionsTest, ThePoolIsCalledByThePortUnlessItHasAName) {
  const ServerOptions options;
  EXPECT_EQ(pool_name(options, 5555), "lmcache_l1_pool_larder_5555");
  const auto none = read_with("shm-name", "");
  ASSERT_TRUE(none.has_value()) << none.error().text;
  EXPECT_EQ(pool_name(none->options, 5555), "");
}

TEST(OptionsTest, WatermarksAreLmcaches) {
  const auto none = read_with("l1-size-gb", "1");
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->options.engine.high_watermark, 1.0);
  EXPECT_EQ(none->options.engine.low_watermark, 1.0);
  const auto trigger = read_with("eviction-trigger-watermark", "0.5");
  ASSERT_TRUE(trigger.has_value());
  EXPECT_DOUBLE_EQ(trigger->options.engine.high_watermark, 0.5);
  EXPECT_DOUBLE_EQ(trigger->options.engine.low_watermark, 0.4);
  const auto ratio = read_with("eviction-ratio", "25%");
  ASSERT_TRUE(ratio.has_value());
  EXPECT_DOUBLE_EQ(ratio->options.engine.high_watermark, 0.8);
  EXPECT_DOUBLE_EQ(ratio->options.engine.low_watermark, 0.6);
  const auto all = read_with("eviction-ratio", "1.0");
  ASSERT_TRUE(all.has_value()) << all.error().text;
}

TEST(OptionsTest, AWrongValueIsAnErrorThatNamesOptionValueAndRemedy) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"l1-size-gb", "much", R"(--l1-size-gb: "much": expected GiB, as in 8)"},
      {"l1-size-gb", "-1", "expected GiB"},
      {"l1-size-gb", "nan", "expected GiB"},
      {"l1-size-gb", "0", "an L1 of 0 bytes"},
      {"l1-align-bytes", "100", "power of two"},
      {"shm-name", "a/b", "without a slash"},
      {"port", "99999", R"("99999": expected a whole number from 0 to 65535)"},
      {"port", "8080", "--port and --http-port are both 8080"},
      {"host", "", "--host is empty"},
      {"ipc-path", std::string(200, 'x'), "choose a shorter one"},
      {"chunk-size", "0", "from 1 to 65536"},
      {"eviction-policy", "LUR", "did you mean 'LRU'?"},
      {"eviction-trigger-watermark", "80", "a share from 0.0 to 1.0"},
      {"l2-store-policy", "skip-l1", "did you mean skip_l1?"},
      {"l2-store-policy", "skip_l1", "add an --l2-adapter, without store=no"},
      {"l2-prefetch-policy", "keep", "one of default, retain, second_hit"},
      {"worker-reap-timeout-seconds", "10", "0 (never) or at least 30"},
      {"worker-registration-grace-seconds", "60", "below --worker-reap-timeout-seconds"},
      {"l1-read-ttl-seconds", "soon", "expected seconds, as in 30, 0.5 or 2m"},
      {"separate-object-groups", "perhaps", "--separate-object-groups"},
  };
  for (const auto& [name, value, expected] : cases) {
    const auto setup = read_with(name, value);
    ASSERT_FALSE(setup.has_value()) << name << "=" << value;
    EXPECT_EQ(setup.error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_TRUE(has(setup.error().text, expected)) << setup.error().text;
  }
}

TEST(OptionsTest, ABufferOnlyL1NeedsSomewhereToStoreTo) {
  const auto read_adapter = [](const std::string& adapter) {
    return read({given("l1-size-gb", {"1"}), given("l2-store-policy", {"skip_l1"}),
                 given("l2-adapter", {adapter})});
  };
  EXPECT_TRUE(read_adapter("memory:").has_value());
  EXPECT_TRUE(has(error_of(read_adapter("memory:?store=no")), "without store=no"));
  EXPECT_TRUE(has(error_of(read_adapter("memory:?min_hits=1")), "exclude each other"));
  const auto many = read_with("l2-adapter", "memory:");
  ASSERT_TRUE(many.has_value());
  ServerOptions options = many->options;
  options.l2_adapters.resize(kL2AdaptersMax + 1, options.l2_adapters[0]);
  EXPECT_FALSE(validate(options).has_value());
}

TEST(OptionsTest, WhatCannotBeHonouredStopsTheStartUnlessItAsksForNothing) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"transport", "grpc", "ZeroMQ only"},
      {"hash-algorithm", "sha256_cbor", "blake3"},
      {"engine-type", "blend", "CacheBlend"},
      {"l1-devdax-path", "/dev/dax0.0", "--l2-adapter log:"},
      {"gds-l1-path", "/mnt/nvme", "--l2-adapter log:"},
      {"p2p-advertise-url", "h:1", "--l2-adapter fs:"},
      {"coordinator-url", "http://c:9300", "joins no coordinator"},
      {"otlp-endpoint", "http://c:4317", "/metrics"},
      {"run-script-api-enabled", "true", "leave it out"},
      {"isolated-ipc", "true", "--ipc=host"},
      {"server-module", "{}", "leave it out"},
      {"api-key-file", "/etc/key", "--http-host on loopback"},
      {"l1-use-hugepages", "true", "leave it out"},
      {"trace-level", "storage", "larder replay"},
  };
  for (const auto& [name, value, expected] : cases) {
    const auto setup = read_with(name, value);
    EXPECT_TRUE(error_of(setup).starts_with("--" + name)) << error_of(setup);
    EXPECT_TRUE(has(error_of(setup), expected)) << error_of(setup);
  }
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"transport", "zmq"},
                                                        {"hash-algorithm", "blake3"},
                                                        {"engine-type", "default"},
                                                        {"isolated-ipc", "false"},
                                                        {"run-script-api-enabled", "false"},
                                                        {"coordinator-url", ""},
                                                        {"runtime-plugin-config", "{}"}}) {
    const auto setup = read_with(name, value);
    ASSERT_TRUE(setup.has_value()) << setup.error().text;
    EXPECT_TRUE(setup->notices.empty()) << name;
  }
}

TEST(OptionsTest, WhatNeedsNothingHereIsOneLineOfLog) {
  const auto setup = read_with("max-workers", "4");
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  ASSERT_EQ(setup->notices.size(), 1U);
  EXPECT_TRUE(setup->notices[0].starts_with("--max-workers: accepted, sets nothing. "))
      << setup->notices[0];
}

// ---- --l1-manager -------------------------------------------------------------------------------

TEST(L1ManagerTest, OneOfMemoryIsTheSameAsTheOptions) {
  const auto setup = read({given("l1-manager", {R"({"type": "DRAM", "tag": "a", "size_gb": 2,
      "shm_name": "golden", "read_ttl_seconds": 10, "use_lazy": true,
      "eviction": {"eviction_policy": "ARC", "trigger_watermark": 0.5}})"})});
  ASSERT_TRUE(setup.has_value()) << setup.error().text;
  EXPECT_EQ(setup->options.l1_bytes, 2 * kGib);
  EXPECT_EQ(setup->options.shm_name, "golden");
  EXPECT_EQ(setup->options.engine.policy, "ARC");
  EXPECT_DOUBLE_EQ(setup->options.engine.high_watermark, 0.5);
  EXPECT_EQ(setup->options.engine.read_ttl_ns, 10 * kSecond);
  EXPECT_TRUE(setup->options.is_l1_lazy);
  EXPECT_TRUE(setup->notices.empty());
}

TEST(L1ManagerTest, WhatIsNotOneL1OfMemoryIsAnError) {
  const std::string memory = R"({"type": "DRAM", "size_gb": 1})";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{memory, memory}, "is given 2 times; larder has one L1"},
      {{R"({"type": "GDS", "size_gb": 1})"}, "--l2-adapter log:"},
      {{"DRAM"}, "expected a JSON object"},
      {{R"({"type": "DRAM", "sizegb": 1})"}, "\"sizegb\" is not known"},
      {{R"({"type": "DRAM", "size_gb": "x"})"}, "--l1-manager: size_gb: \"x\": expected GiB"},
      {{R"({"type": "DRAM", "size_gb": [1]})"}, "\"size_gb\": expected a text, a number"},
      {{R"({"type": "DRAM", "size_gb": 1, "eviction": 5})"}, "\"\" is not known"},
  };
  for (const auto& [values, expected] : cases) {
    const auto setup = read({given("l1-manager", values)});
    EXPECT_TRUE(has(error_of(setup), expected)) << error_of(setup);
  }
  const auto both = read({given("l1-manager", {memory}), given("l1-size-gb", {"1"})});
  EXPECT_TRUE(has(error_of(both), "sets the same; leave one out")) << error_of(both);
}

}  // namespace
}  // namespace larder::server
