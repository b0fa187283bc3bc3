#include "larder/connector/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>
#include <string>

namespace larder {
namespace {

Report sample_report() {
  Report report;
  report.type = "log";
  report.where = "/data/\"kv\"\\\n";
  report.keys = 12;
  OpTotals& lookups = report.operations[index_of(Op::kExists)].total;
  lookups.hits = 30;
  lookups.misses[static_cast<std::size_t>(MissReason::kAbsent)] = 9;
  lookups.misses[static_cast<std::size_t>(MissReason::kDown)] = 1;
  ClassReport& loads = report.classes[index_of(BatchClass::kLoad)];
  loads.batches_queued = 3;
  loads.oldest_queued_ns = 1'500'000'000;
  loads.latency = {.batches = 4, .sum_ns = 2'000'000'000, .p50_ns = 1, .p99_ns = 2, .max_ns = 3};
  loads.batches_within.back() = 4;
  report.counters = {{"corruptions_total", 2}, {"segments_free", 7}};
  return report;
}

TEST(MetricsTest, NamesAreLegalAndEachIsThereOnce) {
  std::set<std::string_view> names;
  for (const MetricRow& row : common_metrics()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_TRUE(std::ranges::all_of(row.name, [](unsigned char c) {
      return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_';
    })) << row.name;
    EXPECT_EQ(row.kind == MetricKind::kCounter, row.name.ends_with("_total")) << row.name;
    EXPECT_TRUE(row.help.ends_with('.')) << row.name;
  }
  std::set<std::string> flat;
  const Report report = sample_report();
  for (const Metric& metric : metrics_of(report)) {
    EXPECT_TRUE(flat.insert(flat_name(metric)).second) << flat_name(metric);
  }
}

TEST(MetricsTest, ALabelStandsInTheFlatNameBeforeTheUnit) {
  const Report report = sample_report();
  EXPECT_EQ(metric_value(report, "lookups_total"), 40U);
  EXPECT_EQ(metric_value(report, "lookup_hits_total"), 30U);
  EXPECT_EQ(metric_value(report, "lookup_misses_absent_total"), 9U);
  EXPECT_EQ(metric_value(report, "lookup_misses_down_total"), 1U);
  EXPECT_EQ(metric_value(report, "batches_queued_load"), 3U);
  EXPECT_EQ(metric_value(report, "oldest_queued_load_seconds"), 1U) << "rounded down";
  EXPECT_EQ(metric_value(report, "corruptions_total"), 2U);
  EXPECT_EQ(metric_value(report, "no_such"), std::nullopt);
}

std::set<std::string> lines_of(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream stream{text};
  for (std::string line; std::getline(stream, line);) {
    EXPECT_TRUE(lines.insert(line).second) << "twice: " << line;
  }
  return lines;
}

TEST(MetricsTest, ThePrometheusTextHasEverythingWithItsHelp) {
  const Report report = sample_report();
  constexpr MetricRow kOwn[] = {
      {"corruptions_total", MetricKind::kCounter, "Records that failed their proof."}};
  const auto lines = lines_of(prometheus_text({&report, 1}, kOwn));
  const std::string store = R"(type="log",where="/data/\"kv\"\\\n")";
  for (const std::string& wanted : {
           std::string{"# HELP larder_keys Keys that are there, as far as the connector knows."},
           std::string{"# TYPE larder_keys gauge"},
           "larder_keys{" + store + "} 12",
           std::string{"# TYPE larder_lookup_misses_total counter"},
           "larder_lookup_misses_total{" + store + R"(,reason="absent"} 9)",
           "larder_oldest_queued_seconds{" + store + R"(,class="load"} 1.5)",
           std::string{"# TYPE larder_batch_seconds histogram"},
           "larder_batch_seconds_bucket{" + store + R"(,class="load",le="1.024e-06"} 0)",
           "larder_batch_seconds_bucket{" + store + R"(,class="load",le="+Inf"} 4)",
           "larder_batch_seconds_sum{" + store + R"(,class="load"} 2)",
           "larder_batch_seconds_count{" + store + R"(,class="load"} 4)",
           std::string{"# HELP larder_corruptions_total Records that failed their proof."},
           "larder_corruptions_total{" + store + "} 2",
           std::string{"# TYPE larder_segments_free gauge"},
       }) {
    EXPECT_TRUE(lines.contains(wanted)) << wanted;
  }
}

TEST(MetricsTest, WhatIsNotKnownYetIsLeftOut) {
  Report report = sample_report();
  report.what_if.points[0].hit_rate = 0.25;
  const std::string text = prometheus_text({&report, 1});
  EXPECT_NE(text.find(R"(capacity="half"} 0.25)"), std::string::npos);
  EXPECT_EQ(text.find(R"(capacity="double"})"), std::string::npos);
  EXPECT_EQ(text.find("nan"), std::string::npos);
  std::set<std::string> names;
  for (const Metric& metric : metrics_of(report)) names.insert(flat_name(metric));
  EXPECT_TRUE(names.contains("what_if_hit_rate_half"));
  EXPECT_FALSE(names.contains("what_if_hit_rate_double"));
  EXPECT_FALSE(names.contains("what_if_measured_hit_rate"));
}

TEST(MetricsTest, StoresOfOneNameAreToldApart) {
  const std::array reports{sample_report(), sample_report()};
  const std::string text = prometheus_text(reports);
  EXPECT_NE(text.find("\\n#2\""), std::string::npos);
  lines_of(text);
}

TEST(MetricsTest, LargeNumbersAreExact) {
  Report report = sample_report();
  report.bytes_used = (std::uint64_t{1} << 53) - 1;
  EXPECT_EQ(metric_value(report, "bytes_used"), (std::uint64_t{1} << 53) - 1);
  EXPECT_NE(prometheus_text({&report, 1}).find("} 9007199254740991\n"), std::string::npos);
}

}  // namespace
}  // namespace larder
