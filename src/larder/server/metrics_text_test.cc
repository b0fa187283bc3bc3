#include "larder/server/metrics_text.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "larder/server/metrics_table.h"

namespace larder::server {
namespace {

/// The text taken apart, as Prometheus does it.
struct Parsed {
  std::map<std::string, std::string> types;    ///< By metric.
  std::map<std::string, std::string> samples;  ///< Values by name and labels.
};

/// The metric that a sample belongs to.
std::string metric_of(const Parsed& parsed, std::string name) {
  if (parsed.types.contains(name)) return name;
  for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
    if (!name.ends_with(suffix)) continue;
    const std::string stem = name.substr(0, name.size() - suffix.size());
    const auto found = parsed.types.find(stem);
    if (found != parsed.types.end() && found->second == "histogram") return stem;
  }
  return "";
}

/// The label pairs of a line end properly: every quote is closed, nothing follows.
bool is_sample(const std::string& line, std::string& key, std::string& value) {
  std::size_t at = 0;
  while (at < line.size() &&
         (std::isalnum(static_cast<unsigned char>(line[at])) != 0 || line[at] == '_')) {
    ++at;
  }
  if (at == 0 || at == line.size()) return false;
  if (line[at] == '{') {
    bool is_quoted = false;
    for (++at; at < line.size() && (is_quoted || line[at] != '}'); ++at) {
      if (is_quoted && line[at] == '\\') {
        ++at;
      } else if (line[at] == '"') {
        is_quoted = !is_quoted;
      }
    }
    if (at >= line.size()) return false;
    ++at;
  }
  if (at >= line.size() || line[at] != ' ') return false;
  key = line.substr(0, at);
  value = line.substr(at + 1);
  return value.find_first_not_of("0123456789.e+-") == std::string::npos && !value.empty();
}

Parsed parse(const std::string& text) {
  Parsed parsed;
  std::istringstream stream{text};
  std::string current;
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words{line};
    std::string hash;
    std::string word;
    std::string name;
    if (line.starts_with("#")) {
      words >> hash >> word >> name;
      std::string rest;
      std::getline(words, rest);
      EXPECT_GT(rest.size(), 1U) << line;
      if (word == "TYPE") {
        EXPECT_TRUE(parsed.types.emplace(name, rest.substr(1)).second) << "twice: " << name;
        current = name;
      }
      continue;
    }
    std::string key;
    std::string value;
    if (!is_sample(line, key, value)) {
      ADD_FAILURE() << "no sample: " << line;
      continue;
    }
    EXPECT_TRUE(parsed.samples.emplace(key, value).second) << "twice: " << key;
    EXPECT_EQ(metric_of(parsed, key.substr(0, key.find('{'))), current) << line;
  }
  return parsed;
}

Parsed shown(const ServerStatus& status, std::uint64_t silent_ns = 0, bool has_lmcache = true) {
  return parse(metrics_text({.status = status,
                             .instance_id = "one",
                             .silent_ns = silent_ns,
                             .has_lmcache_names = has_lmcache}));
}

TierStatus tier(const std::string& name) {
  TierStatus tier{.spec = name + ":/data", .type = "fs", .name = name, .report = {}, .metrics = {}};
  tier.report.type = "fs";
  tier.report.where = "/data/" + name;
  return tier;
}

ServerStatus two_tiers() {
  ServerStatus status;
  status.chunk_tokens = 16;
  status.tiers = {tier("fs"), tier("fs#2")};
  status.engine.totals.tiers.resize(2);
  // As if known, because unknown values have no sample.
  status.engine.what_if_l1.measured = 0;
  for (WhatIf::Point& point : status.engine.what_if_l1.points) point = {0, 0.0};
  status.engine.what_if_l1.points[1].capacity_bytes = 1 << 30;
  return status;
}

TEST(MetricsTextTest, EveryMetricOfTheTablesIsThereFromTheStartAndAtZero) {
  const Parsed parsed = shown(two_tiers());
  std::set<std::string> seen;
  for (const auto& [key, value] : parsed.samples) {
    const std::string name = metric_of(parsed, key.substr(0, key.find('{')));
    seen.insert(name);
    if (name.ends_with("_info")) continue;
    EXPECT_EQ(value, "0") << key;
  }
  for (const auto table : {own_metrics(), lmcache_metrics()}) {
    for (const ServerMetric& metric : table) {
      EXPECT_TRUE(seen.contains(std::string{metric.name})) << metric.name;
    }
  }
  EXPECT_TRUE(seen.contains("larder_set_failures_total")) << "a connector's";
}

TEST(MetricsTextTest, WhatOtherCapacitiesFindIsLeftOutWhereItIsNotKnown) {
  ServerStatus status = two_tiers();
  status.engine.what_if_l1.points[0].hit_rate.reset();
  status.engine.what_if_l1.points[2].hit_rate = 0.75;
  const Parsed parsed = shown(status);
  const std::string metric = "larder_engine_what_if_hit_rate{tier=\"l1\",capacity=";
  EXPECT_EQ(parsed.samples.at(metric + "\"double\"}"), "0.75");
  EXPECT_FALSE(parsed.samples.contains(metric + "\"half\"}"));
  for (const auto& [key, value] : parsed.samples) {
    EXPECT_FALSE(key.starts_with("larder_engine_what_if") && key.find("tier=\"l2\"") < key.size())
        << key << ": there is no L2 with a bound";
  }
}

TEST(MetricsTextTest, NamesAreLegalAndSayTheirKind) {
  for (const auto table : {own_metrics(), lmcache_metrics()}) {
    for (const ServerMetric& metric : table) {
      EXPECT_EQ(metric.kind == MetricKind::kCounter, metric.name.ends_with("_total"))
          << metric.name;
      EXPECT_TRUE(metric.help.ends_with('.')) << metric.name;
      EXPECT_EQ(metric.help.find('\n'), std::string_view::npos) << metric.name;
    }
  }
  for (const ServerMetric& metric : lmcache_metrics()) {
    EXPECT_TRUE(metric.name.starts_with("lmcache_mp_")) << metric.name;
  }
  for (const ServerMetric& metric : own_metrics()) {
    EXPECT_TRUE(metric.name.starts_with("larder_server_") ||
                metric.name.starts_with("larder_engine_"))
        << metric.name;
  }
}

TEST(MetricsTextTest, TheLabelsAreThoseThatTheTableNames) {
  const std::string text = metrics_text({.status = two_tiers(), .instance_id = "one"});
  for (const auto table : {own_metrics(), lmcache_metrics()}) {
    for (const ServerMetric& metric : table) {
      std::istringstream labels{std::string{metric.labels}};
      const std::string suffix = metric.kind == MetricKind::kHistogram ? "_bucket{" : "{";
      const std::size_t begin = text.find("\n" + std::string{metric.name} + suffix);
      for (std::string label; labels >> label;) {
        if (label.ends_with(',')) label.pop_back();
        ASSERT_NE(begin, std::string::npos) << metric.name;
        const std::string line = text.substr(begin, text.find('\n', begin + 1) - begin);
        EXPECT_NE(line.find(label + "=\""), std::string::npos) << metric.name << " " << label;
      }
    }
  }
}

/// I10, as it is shown.
TEST(MetricsTextTest, TokensAskedAreThoseThatHitAndThoseThatMissed) {
  ServerStatus status = two_tiers();
  status.engine.totals.asked = 100;
  status.engine.totals.hit_l1 = 30;
  status.engine.totals.hit_l2 = 20;
  status.engine.totals.missed[static_cast<std::size_t>(cache::Miss::kEvicted)] = 50;
  status.spaces = {
      {.model = "m", .salt = "", .lookups = {.lookups = 2, .asked = 60, .hit_l1 = 30}},
      {.model = "m", .salt = "a", .lookups = {.lookups = 1, .asked = 40, .hit_l2 = 20}}};
  Parsed parsed = shown(status);
  const std::string lookups = "larder_engine_lookup_tokens_total";
  EXPECT_EQ(parsed.samples[lookups + R"({cache_salt="",model_name="m"})"], "960");
  EXPECT_EQ(parsed.samples[lookups + R"({cache_salt="a",model_name="m"})"], "640");
  const std::string hits = "larder_engine_hit_tokens_total";
  EXPECT_EQ(parsed.samples[hits + R"({cache_salt="",model_name="m",source="l1"})"], "480");
  EXPECT_EQ(parsed.samples[hits + R"({cache_salt="a",model_name="m",source="l2"})"], "320");
  EXPECT_EQ(parsed.samples[R"(larder_engine_missed_tokens_total{reason="evicted"})"], "800");
  EXPECT_EQ(parsed.samples[R"(larder_engine_hit_rate{window="all",source="l1"})"], "0.3");
  EXPECT_EQ(parsed.samples["lmcache_mp_lookup_hit_tokens_total{service_instance_id=\"one\","
                           "cache_salt=\"\",model_name=\"m\"}"],
            "480");
}

TEST(MetricsTextTest, EachSaltHasItsBytesAndItsLimit) {
  ServerStatus status = two_tiers();
  status.engine.capacity_bytes = 1000;
  SaltStatus salt;
  salt.stats.l1_bytes = 10;
  salt.stats.columns = 2;
  status.salts.push_back(salt);
  salt.salt = "tenant";
  salt.stats.quota = {.limit_bytes = 300, .guarantee_bytes = 50};
  salt.stats.refused = 4;
  salt.stats.l2_refused = 5;
  salt.stats.l2_bytes = {7, 8};
  status.salts.push_back(salt);
  // Two that look alike when they are cut are one.
  salt.salt = std::string(200, 'x') + "1";
  status.salts.push_back(salt);
  salt.salt = std::string(200, 'x') + "2";
  status.salts.push_back(salt);
  Parsed parsed = shown(status);
  const std::string prefix = "larder_engine_salt_";
  EXPECT_EQ(parsed.samples[prefix + R"(l1_bytes{cache_salt=""})"], "10");
  EXPECT_EQ(parsed.samples[prefix + R"(l1_limit_bytes{cache_salt=""})"], "1000");
  EXPECT_EQ(parsed.samples[prefix + R"(l1_limit_bytes{cache_salt="tenant"})"], "300");
  EXPECT_EQ(parsed.samples[prefix + R"(l1_guarantee_bytes{cache_salt="tenant"})"], "50");
  EXPECT_EQ(parsed.samples[prefix + R"(l1_chunks{cache_salt="tenant"})"], "2");
  EXPECT_EQ(parsed.samples[prefix + R"(over_limit_total{cache_salt="tenant"})"], "4");
  EXPECT_EQ(parsed.samples[prefix + R"(l2_over_limit_total{cache_salt="tenant"})"], "5");
  EXPECT_EQ(parsed.samples[prefix + R"(l2_bytes{cache_salt="tenant",tier="fs#2"})"], "8");
  const std::string cut = "l1_bytes{cache_salt=\"" + std::string(128, 'x') + "...\"}";
  EXPECT_EQ(parsed.samples[prefix + cut], "20");
}

TEST(MetricsTextTest, NoTextOfAClientBreaksThePage) {
  ServerStatus status = two_tiers();
  const std::string hostile[] = {"\"} 1\nlarder_evil 1\n{x=\"",
                                 "\\",
                                 "\xff\xfe",
                                 std::string(5000, 'a'),
                                 std::string(5001, 'a'),
                                 std::string("nul\0", 4),
                                 "tab\t\r",
                                 std::string{'\xe2', '\x80', '\xae'}};
  for (const std::string& text : hostile) {
    status.spaces.push_back({.model = text, .salt = text, .lookups = {.lookups = 1, .asked = 1}});
    InstanceStatus instance;
    instance.id = std::to_string(status.instances.size());
    instance.model = text;
    status.instances.push_back(instance);
    TierStatus odd = tier("fs#" + std::to_string(status.tiers.size() + 1));
    odd.spec = odd.report.where = text;
    status.tiers.push_back(odd);
  }
  const std::string text = metrics_text({.status = status, .instance_id = hostile[0]});
  const Parsed parsed = parse(text);
  EXPECT_FALSE(parsed.types.contains("larder_evil"));
  for (const auto& [key, value] : parsed.samples) {
    EXPECT_FALSE(key.starts_with("larder_evil")) << key;
  }
  EXPECT_EQ(text.find('\xff'), std::string::npos);
  EXPECT_EQ(text.find('\0'), std::string::npos);
  EXPECT_EQ(text.find(std::string(200, 'a')), text.find("spec=\"" + std::string(200, 'a')) + 6)
      << "only what the operator gave is long";
}

TEST(MetricsTextTest, TextsThatLookAlikeAreOneSample) {
  ServerStatus status = two_tiers();
  for (const char last : {'x', 'y'}) {
    status.spaces.push_back(
        {.model = std::string(500, 'm') + last, .salt = "", .lookups = {.lookups = 1, .asked = 3}});
  }
  const Parsed parsed = shown(status);
  std::size_t samples = 0;
  for (const auto& [key, value] : parsed.samples) {
    if (!key.starts_with("larder_engine_lookup_tokens_total")) continue;
    EXPECT_EQ(value, "96");
    ++samples;
  }
  EXPECT_EQ(samples, 1U);
}

TEST(MetricsTextTest, WorkersBeyondAHundredAreCountedTogether) {
  ServerStatus status = two_tiers();
  for (int i = 0; i < 130; ++i) {
    InstanceStatus instance;
    instance.id = std::to_string(i);
    instance.model = "m";
    instance.chunks_loaded = 1;
    status.instances.push_back(instance);
  }
  Parsed parsed = shown(status);
  EXPECT_EQ(parsed.samples["lmcache_mp_num_chunks_loaded_total{service_instance_id=\"one\","
                           "model_name=\"other\",worker_id=\"other\"}"],
            "30");
}

TEST(MetricsTextTest, ALoopThatDoesNotAnswerIsSeen) {
  Parsed parsed = shown(two_tiers(), 2'500'000'000);
  EXPECT_EQ(parsed.samples["larder_engine_stall_seconds"], "2.5");
}

TEST(MetricsTextTest, EachTierHasItsOwnFailuresByReason) {
  ServerStatus status = two_tiers();
  status.engine.totals.tiers[1].store_failed = 7;
  status.engine.totals.tiers[1].stores = 5;
  status.engine.totals.tiers[1].stores_ended = 3;
  status.tiers[1].report.health = Health::kDown;
  Parsed parsed = shown(status);
  const std::string failed = "larder_engine_tier_stores_failed_total";
  EXPECT_EQ(parsed.samples[failed + R"({tier="fs",reason="failed"})"], "0");
  EXPECT_EQ(parsed.samples[failed + R"({tier="fs#2",reason="failed"})"], "7");
  EXPECT_EQ(parsed.samples[R"(larder_server_tier_health{tier="fs#2"})"], "2");
  EXPECT_EQ(parsed.samples
                ["lmcache_mp_num_inflight_l2_stores{service_instance_id=\"one\",l2_name=\"fs#2\"}"],
            "2");
}

TEST(MetricsTextTest, AHistogramIsCumulativeAndInTheUnitOfItsMetric) {
  ServerStatus status = two_tiers();
  status.turns.record(20'000);
  status.turns.record(400'000);
  status.turns.record(60'000'000'000);
  Parsed parsed = shown(status);
  const std::string bucket = "larder_engine_turn_seconds_bucket";
  EXPECT_EQ(parsed.samples[bucket + R"({le="1e-05"})"], "0");
  EXPECT_EQ(parsed.samples[bucket + R"({le="3e-05"})"], "1");
  EXPECT_EQ(parsed.samples[bucket + R"({le="0.0003"})"], "1") << "as people write it";
  EXPECT_EQ(parsed.samples[bucket + R"({le="0.001"})"], "2");
  EXPECT_EQ(parsed.samples[bucket + R"({le="5"})"], "2");
  EXPECT_EQ(parsed.samples[bucket + R"({le="+Inf"})"], "3");
  EXPECT_EQ(parsed.samples["larder_engine_turn_seconds_count"], "3");
}

TEST(MetricsTextTest, LmcachesNamesCanBeLeftOut) {
  for (const auto& [name, type] : shown(two_tiers(), 0, false).types) {
    EXPECT_FALSE(name.starts_with("lmcache_")) << name;
  }
}

/// The queries of LMCache's dashboard.
TEST(MetricsTextTest, HasWhatLmcachesDashboardReads) {
  const Parsed parsed = shown(two_tiers());
  for (const char* const name : {"l1_allocation_failure_chunks_total",
                                 "l1_read_failure_chunks_total",
                                 "l2_prefetch_failure_chunks_total",
                                 "l1_eviction_loop_ticks_total",
                                 "l1_eviction_loop_triggered_total",
                                 "l1_memory_usage_bytes",
                                 "l1_usage_ratio",
                                 "l1_read_chunks_total",
                                 "l1_write_chunks_total",
                                 "l1_evicted_chunks_total",
                                 "l2_store_submitted_requests_total",
                                 "l2_store_completed_requests_total",
                                 "l2_store_submitted_objects_chunks_total",
                                 "l2_store_completed_objects_chunks_total",
                                 "l2_prefetch_lookup_requests_total",
                                 "l2_prefetch_lookup_objects_chunks_total",
                                 "l2_prefetch_load_submitted_requests_total",
                                 "l2_prefetch_load_submitted_objects_chunks_total",
                                 "l2_prefetch_load_completed_chunks_total",
                                 "l2_load_completed_requests_total",
                                 "num_inflight_l2_stores",
                                 "num_inflight_l2_loads",
                                 "inflight_load_memory_usage_bytes",
                                 "active_prefetch_jobs",
                                 "num_submitted_stores_total",
                                 "num_finished_stores_total",
                                 "num_submitted_retrieves_total",
                                 "num_finished_retrieves_total",
                                 "l0_l1_store_throughput_GB_per_second",
                                 "l0_l1_load_throughput_GB_per_second",
                                 "l2_store_throughput_GB_per_second",
                                 "l2_load_throughput_GB_per_second",
                                 "lookup_requested_tokens_total",
                                 "lookup_hit_tokens_total",
                                 "lookup_hit_l1_tokens_total",
                                 "lookup_hit_l2_tokens_total",
                                 "num_chunks_loaded_total",
                                 "l2_usage_bytes",
                                 "l1_chunk_lifetime_seconds",
                                 "l1_chunk_idle_before_evict_seconds",
                                 "l1_chunk_reuse_gap_seconds",
                                 "l1_chunk_evict_reuse_gap_seconds",
                                 "real_reuse_gap_seconds"}) {
    EXPECT_TRUE(parsed.types.contains(std::string{"lmcache_mp_"} + name)) << name;
  }
}

TEST(MetricsTextTest, ThePageIsWhatTheTablesSay) {
  std::ifstream file{LARDER_SERVER_METRICS_PAGE};
  const std::string page{std::istreambuf_iterator<char>{file}, {}};
  EXPECT_EQ(page, metrics_markdown())
      << "larder server --metrics-markdown > docs/server_metrics.md";
}

}  // namespace
}  // namespace larder::server
