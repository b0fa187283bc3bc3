#include "larder/base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

/// A value of any magnitude.
std::uint64_t any_value(Random& random) {
  return random.next() >> random.below(64);
}

TEST(HistogramTest, BucketsCoverTheWholeRangeWithoutGapOrOverlap) {
  std::uint64_t before = 0;
  for (std::size_t bucket = 0; bucket < LogLinearHistogram::kBuckets; ++bucket) {
    const std::uint64_t upper = LogLinearHistogram::upper_bound(bucket);
    const std::uint64_t lower = bucket == 0 ? 0 : before + 1;
    ASSERT_LE(lower, upper) << bucket;
    ASSERT_EQ(LogLinearHistogram::bucket_of(lower), bucket);
    ASSERT_EQ(LogLinearHistogram::bucket_of(upper), bucket);
    ASSERT_LE((upper - lower) / 2, lower / 32) << bucket << ": wider than 1/16 of its values";
    before = upper;
  }
  EXPECT_EQ(before, kMax);
}

TEST(HistogramTest, PowersOfTwoAreTheUpperBoundsOfTheirBuckets) {
  for (unsigned power = 0; power < 64; ++power) {
    const std::uint64_t value = std::uint64_t{1} << power;
    EXPECT_EQ(LogLinearHistogram::upper_bound(LogLinearHistogram::bucket_of(value)), value);
  }
}

TEST(HistogramTest, AnEmptyOneIsAllZeros) {
  const LogLinearHistogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.sum(), 0U);
  EXPECT_EQ(histogram.min(), 0U);
  EXPECT_EQ(histogram.max(), 0U);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.quantile(0.5), 0U);
  EXPECT_EQ(histogram.count_at_most(kMax), 0U);
}

TEST(HistogramTest, OneValueIsEveryQuantileExactly) {
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1'234'567}, kMax}) {
    LogLinearHistogram histogram;
    histogram.record(value);
    for (const double q : {0.0, 0.001, 0.5, 0.999, 1.0}) EXPECT_EQ(histogram.quantile(q), value);
    EXPECT_EQ(histogram.min(), value);
    EXPECT_EQ(histogram.max(), value);
    EXPECT_EQ(histogram.sum(), value);
  }
}

TEST(HistogramTest, QuantilesOutsideZeroToOneAreTheExtremes) {
  LogLinearHistogram histogram;
  histogram.record(10);
  histogram.record(20);
  EXPECT_EQ(histogram.quantile(-1), 10U);
  EXPECT_EQ(histogram.quantile(std::nan("")), 10U);
  EXPECT_EQ(histogram.quantile(2), 20U);
}

TEST(HistogramTest, RecordTakesRepeats) {
  LogLinearHistogram histogram;
  histogram.record(5, 3);
  histogram.record(100, 0);
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.sum(), 15U);
  EXPECT_EQ(histogram.max(), 5U);
  EXPECT_EQ(histogram.mean(), 5.0);
}

TEST(HistogramProperty, QuantilesAreAtMostOneSixteenthAboveTheExactOnes) {
  Random random{1};
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> values(1 + random.below(500));
    LogLinearHistogram histogram;
    for (auto& value : values) {
      value = any_value(random);
      histogram.record(value);
    }
    std::ranges::sort(values);
    EXPECT_EQ(histogram.min(), values.front());
    EXPECT_EQ(histogram.max(), values.back());
    for (const double q : {0.01, 0.25, 0.5, 0.9, 0.99, 0.999}) {
      const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size())));
      const std::uint64_t exact = values[rank - 1];
      const std::uint64_t estimate = histogram.quantile(q);
      ASSERT_GE(estimate, exact) << q;
      ASSERT_LE(estimate - exact, exact / 16) << q;
    }
  }
}

TEST(HistogramProperty, MergingEqualsRecordingIntoOne) {
  Random random{2};
  LogLinearHistogram whole;
  std::vector<LogLinearHistogram> parts(4);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t value = any_value(random);
    whole.record(value);
    parts[random.below(3)].record(value);  // The last one stays empty.
  }
  LogLinearHistogram merged;
  for (const auto& part : parts) merged.merge(part);
  EXPECT_EQ(merged.count(), whole.count());
  EXPECT_EQ(merged.sum(), whole.sum());
  EXPECT_EQ(merged.min(), whole.min());
  EXPECT_EQ(merged.max(), whole.max());
  for (unsigned power = 0; power < 64; ++power) {
    const std::uint64_t bound = std::uint64_t{1} << power;
    EXPECT_EQ(merged.count_at_most(bound), whole.count_at_most(bound));
  }
}

TEST(HistogramProperty, CountAtMostIsExactAtPowersOfTwo) {
  Random random{3};
  std::vector<std::uint64_t> values(2'000);
  LogLinearHistogram histogram;
  for (auto& value : values) {
    value = random.one_in(4) ? std::uint64_t{1} << random.below(64) : any_value(random);
    histogram.record(value);
  }
  for (unsigned power = 0; power < 64; ++power) {
    const std::uint64_t bound = std::uint64_t{1} << power;
    const auto exact =
        std::ranges::count_if(values, [bound](auto value) { return value <= bound; });
    EXPECT_EQ(histogram.count_at_most(bound), static_cast<std::uint64_t>(exact)) << power;
  }
  EXPECT_EQ(histogram.count_at_most(kMax), values.size());
}

}  // namespace
}  // namespace larder
