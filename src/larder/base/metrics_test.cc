#include "larder/base/metrics.h"

#include <gtest/gtest.h>

#include <latch>
#include <limits>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/random.h"

namespace larder {
namespace {

using enum HistogramUnit;

constexpr int kThreads = 8;
constexpr int kManyThreads = 200;
constexpr std::uint64_t kAdds = 20'000;

TEST(MetricCounterTest, AddsUpAllThreadsDuringAndAfterTheirLives) {
  MetricsRegistry registry;
  MetricCounter& counter = registry.counter("keys_total", "Keys.");
  std::latch all_added{kThreads};
  std::latch may_end{1};
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (std::uint64_t n = 0; n < kAdds; ++n) counter.add();
        counter.add(5);
        all_added.count_down();
        may_end.wait();
      });
    }
    all_added.wait();
    EXPECT_EQ(counter.value(), kThreads * (kAdds + 5)) << "while the threads live";
    may_end.count_down();
  }
  EXPECT_EQ(counter.value(), kThreads * (kAdds + 5)) << "after they ended";
  counter.add();
  EXPECT_EQ(counter.value(), kThreads * (kAdds + 5) + 1);
}

TEST(MetricCounterTest, NeverSeemsToFallWhileThreadsComeAndGo) {
  MetricsRegistry registry;
  MetricCounter& counter = registry.counter("keys_total", "Keys.");
  std::atomic<bool> is_done = false;
  std::jthread reader{[&] {
    std::uint64_t before = 0;
    while (!is_done) {
      const std::uint64_t now = counter.value();
      ASSERT_GE(now, before);
      ASSERT_LE(now, std::uint64_t{kManyThreads} * 100);
      before = now;
    }
  }};
  for (int i = 0; i < kManyThreads; i += 4) {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int j = 0; j < 4; ++j) {
      threads.emplace_back([&] {
        for (int n = 0; n < 100; ++n) counter.add();
      });
    }
  }
  is_done = true;
  reader.join();
  EXPECT_EQ(counter.value(), std::uint64_t{kManyThreads} * 100);
}

/// Counts in its destructor, that is, when the thread is ending.
struct CountsAtTheEnd {
  MetricCounter* counter = nullptr;
  CountsAtTheEnd() = default;
  CountsAtTheEnd(const CountsAtTheEnd&) = delete;
  CountsAtTheEnd& operator=(const CountsAtTheEnd&) = delete;
  ~CountsAtTheEnd() {
    if (counter != nullptr) counter->add(10);
  }
};
thread_local CountsAtTheEnd counts_at_the_end;

TEST(MetricCounterTest, CountsInDestructorsOfAnEndingThreadAreNotLost) {
  MetricsRegistry registry;
  MetricCounter& counter = registry.counter("keys_total", "Keys.");
  std::jthread{[&] {
    // Made before the thread's cells, so destroyed after them.
    counts_at_the_end.counter = &counter;
    counter.add(1);
  }}.join();
  EXPECT_EQ(counter.value(), 11U);
  std::jthread{[&] { counts_at_the_end.counter = &counter; }}.join();
  EXPECT_EQ(counter.value(), 21U) << "a thread that counts for the first time while it ends";
}

TEST(MetricGaugeTest, GoesUpAndDown) {
  MetricsRegistry registry;
  MetricGauge& gauge = registry.gauge("depth", "Depth.");
  gauge.set(5);
  gauge.add(-7);
  EXPECT_EQ(gauge.value(), -2);
}

TEST(MetricHistogramTest, EqualsAPlainHistogramOfAllThreadsValues) {
  MetricsRegistry registry;
  MetricHistogram& shared = registry.histogram("bytes", "Bytes.", kAsRecorded);
  std::vector<LogLinearHistogram> parts(4);
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      threads.emplace_back([&shared, &part = parts[i], i] {
        Random random{i};
        for (int n = 0; n < 5'000; ++n) {
          const std::uint64_t value = random.next() >> random.below(64);
          shared.record(value);
          part.record(value);
        }
      });
    }
  }
  LogLinearHistogram plain;
  for (const auto& part : parts) plain.merge(part);
  const HistogramSnapshot snapshot = shared.snapshot();
  EXPECT_EQ(snapshot.count(), plain.count());
  EXPECT_EQ(snapshot.sum(), plain.sum());
  EXPECT_EQ(snapshot.min(), plain.min());
  EXPECT_EQ(snapshot.max(), plain.max());
  for (const double q : {0.1, 0.5, 0.99, 0.999}) EXPECT_EQ(snapshot.quantile(q), plain.quantile(q));
}

TEST(MetricHistogramTest, SnapshotsOfAnEmptyOneAndOfExtremes) {
  MetricsRegistry registry;
  MetricHistogram& histogram = registry.histogram("bytes", "Bytes.", kAsRecorded);
  EXPECT_EQ(histogram.snapshot().count(), 0U);
  EXPECT_EQ(histogram.snapshot().min(), 0U);
  histogram.record(0);
  EXPECT_EQ(histogram.snapshot().min(), 0U);
  EXPECT_EQ(histogram.snapshot().max(), 0U);
  histogram.record(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(histogram.snapshot().max(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(histogram.snapshot().count(), 2U);
}

TEST(MetricHistogramTest, CanBeReadWhileItIsWritten) {
  MetricsRegistry registry;
  MetricHistogram& histogram = registry.histogram("bytes", "Bytes.", kAsRecorded);
  std::atomic<bool> is_done = false;
  {
    const std::jthread reader{[&] {
      std::uint64_t before = 0;
      while (!is_done) {
        const auto snapshot = histogram.snapshot();
        ASSERT_GE(snapshot.count(), before);
        ASSERT_LE(snapshot.quantile(0.5), 5'000U);
        before = snapshot.count();
      }
    }};
    std::vector<std::jthread> writers;
    writers.reserve(kThreads);
    for (int i = 0; i < 3; ++i) {
      writers.emplace_back([&] {
        for (std::uint64_t value = 1; value <= 5'000; ++value) histogram.record(value);
      });
    }
    writers.clear();
    is_done = true;
  }
  EXPECT_EQ(histogram.snapshot().count(), 15'000U);
}

TEST(MetricsRegistryTest, MetricsDoNotShareCells) {
  // More cells than several chunks hold, of sizes that do not divide a chunk.
  MetricsRegistry registry;
  std::vector<MetricCounter*> counters;
  std::vector<MetricHistogram*> histograms;
  for (int i = 0; i < 5; ++i) {
    const auto number = std::to_string(i);
    histograms.push_back(&registry.histogram("h_" + number, "Help.", kAsRecorded));
    for (int j = 0; j < 30; ++j) {
      counters.push_back(&registry.counter("c_" + number + "_" + std::to_string(j), "Help."));
    }
  }
  for (std::size_t i = 0; i < counters.size(); ++i) counters[i]->add(i + 1);
  for (std::size_t i = 0; i < histograms.size(); ++i) {
    for (std::size_t n = 0; n <= i; ++n) histograms[i]->record(std::uint64_t{1} << 63);
    histograms[i]->record(0);
  }
  for (std::size_t i = 0; i < counters.size(); ++i) EXPECT_EQ(counters[i]->value(), i + 1);
  for (std::size_t i = 0; i < histograms.size(); ++i) {
    const auto snapshot = histograms[i]->snapshot();
    EXPECT_EQ(snapshot.count(), i + 2);
    EXPECT_EQ(snapshot.count_at_most(1), 1U);
  }
}

TEST(MetricsRegistryTest, TheSameNameAndLabelsGiveTheSameMetric) {
  MetricsRegistry registry;
  const MetricCounter& get = registry.counter("ops_total", "Ops.", {{"op", "get"}, {"tier", "l1"}});
  EXPECT_EQ(&get, &registry.counter("ops_total", "Ops.", {{"tier", "l1"}, {"op", "get"}}));
  EXPECT_NE(&get, &registry.counter("ops_total", "Ops.", {{"op", "set"}, {"tier", "l1"}}));
  EXPECT_EQ(&registry.gauge("depth", "Depth."), &registry.gauge("depth", "Depth."));
  const MetricHistogram& bytes = registry.histogram("bytes", "Bytes.", kAsRecorded);
  EXPECT_EQ(&bytes, &registry.histogram("bytes", "Bytes.", kAsRecorded));
  EXPECT_EQ(&MetricsRegistry::global(), &MetricsRegistry::global());
}

TEST(MetricsRegistryDeathTest, MistakesOfTheCallerAbort) {
  MetricsRegistry registry;
  registry.counter("ops_total", "Ops.");
  registry.histogram("wait_seconds", "Wait.", kNanoseconds);
  EXPECT_DEATH(registry.gauge("ops_total", "Ops."), "kind");
  EXPECT_DEATH(registry.histogram("ops_total", "Ops.", kAsRecorded), "kind");
  EXPECT_DEATH(registry.histogram("wait_seconds", "Wait.", kAsRecorded), "unit");
  EXPECT_DEATH(registry.counter("", "Help."), "is_name");
  EXPECT_DEATH(registry.counter("9lives", "Help."), "is_name");
  EXPECT_DEATH(registry.counter("a-b", "Help."), "is_name");
  EXPECT_DEATH(registry.counter("a", "Help.", {{"bad name", "x"}}), "are_legal");
  EXPECT_DEATH(registry.counter("a", "Help.", {{"__reserved", "x"}}), "are_legal");
  EXPECT_DEATH(registry.counter("a", "Help.", {{"le", "x"}}), "are_legal");
  EXPECT_DEATH(registry.counter("a", "Help.", {{"x", "1"}, {"x", "2"}}), "are_legal");
}

TEST(PrometheusTextTest, WritesCountersAndGaugesInOrder) {
  MetricsRegistry registry;
  registry.gauge("b_depth", "How deep.").set(-3);
  registry.counter("a_total", "Things.", {{"op", "set"}}).add(2);
  registry.counter("a_total", "Things.", {{"op", "get"}}).add(1);
  registry.counter("c_total", "Nothing yet.");
  EXPECT_EQ(registry.prometheus_text(),
            "# HELP a_total Things.\n"
            "# TYPE a_total counter\n"
            "a_total{op=\"get\"} 1\n"
            "a_total{op=\"set\"} 2\n"
            "# HELP b_depth How deep.\n"
            "# TYPE b_depth gauge\n"
            "b_depth -3\n"
            "# HELP c_total Nothing yet.\n"
            "# TYPE c_total counter\n"
            "c_total 0\n");
}

TEST(PrometheusTextTest, EscapesHelpAndLabelValues) {
  MetricsRegistry registry;
  registry.counter("a_total", "A \"help\"\nwith \\.", {{"path", "C:\\\"x\"\n"}});
  EXPECT_EQ(registry.prometheus_text(),
            "# HELP a_total A \"help\"\\nwith \\\\.\n"
            "# TYPE a_total counter\n"
            "a_total{path=\"C:\\\\\\\"x\\\"\\n\"} 0\n");
}

/// The text as a Prometheus server reads it; fails the test where it would refuse.
struct ParsedText {
  std::map<std::string, std::string> type_of_family;
  std::map<std::string, double> value_of_sample;  ///< By name and labels as written.
  std::vector<std::string> sample_order;
};

ParsedText parse_prometheus(const std::string& text) {
  static const std::regex help{R"(# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (([^\\]|\\\\|\\n)*))"};
  static const std::regex type{R"(# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram))"};
  static const std::regex sample{
      R"re(([a-zA-Z_:][a-zA-Z0-9_:]*))re"
      R"re((\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\.)*",?)+\})? ([-+0-9.e]+))re"};
  ParsedText parsed;
  std::string helped;
  std::string family;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, help)) {
      helped = match[1];
    } else if (std::regex_match(line, match, type)) {
      family = match[1];
      EXPECT_EQ(helped, family);
      EXPECT_TRUE(parsed.type_of_family.emplace(family, match[2]).second) << "twice: " << line;
    } else if (std::regex_match(line, match, sample)) {
      std::string name = match[1];
      if (parsed.type_of_family[family] == "histogram") {
        for (const std::string suffix : {"_bucket", "_sum", "_count"}) {
          if (name == family + suffix) name = family;
        }
      }
      EXPECT_EQ(name, family) << "outside its family: " << line;
      const std::string key = match[1].str() + match[2].str();
      EXPECT_TRUE(parsed.value_of_sample.emplace(key, std::stod(match[5])).second) << line;
      parsed.sample_order.push_back(key);
    } else {
      ADD_FAILURE() << "not Prometheus' format: " << line;
    }
  }
  EXPECT_TRUE(text.ends_with('\n'));
  return parsed;
}

TEST(PrometheusTextTest, HistogramsAreCumulativeAndInSeconds) {
  MetricsRegistry registry;
  MetricHistogram& wait =
      registry.histogram("wait_seconds", "How long.", kNanoseconds, {{"op", "get"}});
  wait.record(1'024);            // Exactly the first bound.
  wait.record(1'500'000);        // 1.5 ms.
  wait.record(500'000'000'000);  // Beyond the last bound.
  MetricHistogram& bytes = registry.histogram("value_bytes", "How large.", kAsRecorded);
  bytes.record(std::uint64_t{1} << 20);
  registry.counter("other_total", "Other.").add(7);

  const auto parsed = parse_prometheus(registry.prometheus_text());
  EXPECT_EQ(parsed.type_of_family.at("wait_seconds"), "histogram");
  const auto& values = parsed.value_of_sample;
  EXPECT_EQ(values.at("other_total"), 7);
  EXPECT_EQ(values.at(R"(wait_seconds_bucket{op="get",le="1.024e-06"})"), 1);
  EXPECT_EQ(values.at(R"(wait_seconds_bucket{op="get",le="0.001048576"})"), 1);
  EXPECT_EQ(values.at(R"(wait_seconds_bucket{op="get",le="0.002097152"})"), 2);
  EXPECT_EQ(values.at(R"(wait_seconds_bucket{op="get",le="68.719476736"})"), 2);
  EXPECT_EQ(values.at(R"(wait_seconds_bucket{op="get",le="+Inf"})"), 3);
  EXPECT_EQ(values.at(R"(wait_seconds_count{op="get"})"), 3);
  EXPECT_DOUBLE_EQ(values.at(R"(wait_seconds_sum{op="get"})"), 500.001501024);
  EXPECT_EQ(values.at(R"(value_bytes_bucket{le="262144"})"), 0);
  EXPECT_EQ(values.at(R"(value_bytes_bucket{le="1048576"})"), 1);
  EXPECT_EQ(values.at("value_bytes_sum"), 1'048'576);
}

TEST(PrometheusTextTest, BucketsRiseInBoundAndCountUpToTheTotal) {
  MetricsRegistry registry;
  Random random{5};
  for (const HistogramUnit unit : {kAsRecorded, kNanoseconds}) {
    auto& histogram =
        registry.histogram(unit == kAsRecorded ? "plain" : "time_seconds", "H.", unit);
    for (int i = 0; i < 1'000; ++i) histogram.record(random.next() >> random.below(64));
  }
  const auto parsed = parse_prometheus(registry.prometheus_text());
  for (const std::string name : {"plain", "time_seconds"}) {
    const std::string prefix = name + "_bucket{le=\"";
    double bound = -1;
    double count = 0;
    int buckets = 0;
    for (const auto& key : parsed.sample_order) {
      if (!key.starts_with(prefix)) continue;
      const double next_bound = std::stod(key.substr(prefix.size()));
      EXPECT_GT(next_bound, bound) << key;
      EXPECT_GE(parsed.value_of_sample.at(key), count) << key;
      bound = next_bound;
      count = parsed.value_of_sample.at(key);
      ++buckets;
    }
    EXPECT_GT(buckets, 20);
    EXPECT_EQ(bound, std::numeric_limits<double>::infinity()) << "the last is +Inf";
    EXPECT_EQ(count, 1'000);
    EXPECT_EQ(parsed.value_of_sample.at(name + "_count"), 1'000);
  }
}

TEST(PrometheusTextTest, AnEmptyRegistryIsAnEmptyText) {
  EXPECT_EQ(MetricsRegistry{}.prometheus_text(), "");
}

}  // namespace
}  // namespace larder
