#include "larder/tools/scrape.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "larder/tools/metric_samples.h"

namespace larder::tools {
namespace {

Scrape scrape_of(const std::string& text, double at_s = 0) {
  auto samples = read_samples(text);
  EXPECT_TRUE(samples.has_value()) << samples.error().text;
  return Scrape{*std::move(samples), at_s};
}

TEST(MetricSamplesTest, OthersAreSkippedAndATextThatIsNoMetricsIsNamed) {
  EXPECT_TRUE(read_samples("").value().empty());
  EXPECT_TRUE(read_samples("# HELP x y\n\nup{a=\"b\"} 1 1234\nnonsense follows\n").value().empty());
  const auto page = read_samples("\n<!DOCTYPE html>\n<p>\x1b[2J" + std::string(5000, 'x'));
  ASSERT_FALSE(page.has_value());
  EXPECT_EQ(page.error().text, "line 2: not of Prometheus' text format: <!DOCTYPE html>");
  const auto cut = read_samples("larder_" + std::string(5000, 'x'));
  ASSERT_FALSE(cut.has_value());
  EXPECT_LT(cut.error().text.size(), 200U);
  EXPECT_EQ(read_samples("larder_a NaN\nlarder_b +Inf\nlarder_c inf\n").value().size(), 3U);
  EXPECT_EQ(scrape_of("larder_a NaN\n").sum("a"), 0);
}

TEST(MetricSamplesTest, ThereAreNotMoreThanATargetOfLardersHas) {
  std::string text;
  for (std::size_t i = 0; i <= kMetricSamplesMax; ++i) text += "larder_a 1\n";
  const auto many = read_samples(text);
  ASSERT_FALSE(many.has_value());
  EXPECT_NE(many.error().text.find("more than 200000 numbers"), std::string::npos);
}

TEST(ScrapeTest, AnIncreaseSurvivesARestartAndNewSeries) {
  const Scrape before = scrape_of("larder_n{a=\"x\"} 10\nlarder_n{a=\"y\"} 100\n", 5);
  const Scrape now =
      scrape_of("larder_n{a=\"y\"} 130\nlarder_n{a=\"x\"} 4\nlarder_n{a=\"z\",b=\"1\"} 2\n", 7);
  EXPECT_EQ(now.increase(before, "n", {{"a", "y"}}), 30);
  EXPECT_EQ(now.increase(before, "n", {{"a", "x"}}), 4) << "it began again";
  EXPECT_EQ(now.increase(before, "n", {{"b", "1"}}), 2) << "it was not there";
  EXPECT_EQ(now.increase(before, "n"), 36);
  EXPECT_EQ(now.increase(before, "none"), 0);
  EXPECT_EQ(now.sum("n", {{"a", "none"}}), 0);
}

TEST(ScrapeTest, BucketsAreThoseOfTheTimeBetween) {
  const Scrape before = scrape_of(
      "larder_t_bucket{le=\"0.1\"} 100\nlarder_t_bucket{le=\"1\"} "
      "100\nlarder_t_bucket{le=\"+Inf\"} "
      "100\n");
  const Scrape now = scrape_of(
      "larder_t_bucket{le=\"0.1\"} 110\nlarder_t_bucket{le=\"1\"} "
      "120\nlarder_t_bucket{le=\"+Inf\"} "
      "121\nlarder_t_bucket{le=\"wrong\"} 5\n");
  const Buckets buckets = now.buckets(&before, "t_bucket");
  EXPECT_EQ(buckets, (Buckets{{0.1, 10}, {1, 20}, {HUGE_VAL, 21}}));
  EXPECT_EQ(now.buckets(nullptr, "t_bucket").at(1), 120);
}

TEST(QuantileTest, IsLinearWithinItsBucket) {
  const Buckets buckets{{1, 10}, {2, 20}, {4, 20}, {HUGE_VAL, 20}};
  EXPECT_DOUBLE_EQ(quantile_of(buckets, 0.5)->value, 1);
  EXPECT_DOUBLE_EQ(quantile_of(buckets, 0.75)->value, 1.5);
  EXPECT_DOUBLE_EQ(quantile_of(buckets, 1)->value, 2);
  EXPECT_DOUBLE_EQ(quantile_of(buckets, 0.25)->value, 0.5);
}

TEST(QuantileTest, AboveTheLastBoundItSaysSo) {
  const auto beyond = quantile_of({{1, 10}, {HUGE_VAL, 20}}, 0.99);
  ASSERT_TRUE(beyond.has_value());
  EXPECT_TRUE(beyond->is_more);
  EXPECT_EQ(beyond->value, 1);
  EXPECT_FALSE(quantile_of({}, 0.5).has_value());
  EXPECT_FALSE(quantile_of({{1, 0}, {HUGE_VAL, 0}}, 0.5).has_value());
  // Not cumulative, as after a counter began again: the result is arbitrary, but the call ends.
  EXPECT_TRUE(quantile_of({{1, 10}, {2, 3}, {HUGE_VAL, 12}}, 0.99).has_value());
}

}  // namespace
}  // namespace larder::tools
