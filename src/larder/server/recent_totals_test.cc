#include "larder/server/recent_totals.h"

#include <gtest/gtest.h>

namespace larder::server {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kMinute = 60 * kSecond;

WatchedTotals asked(std::uint64_t chunks) {
  WatchedTotals totals;
  totals.asked = chunks;
  totals.hit_l1 = chunks / 2;
  totals.missed[1] = chunks - chunks / 2;
  return totals;
}

TEST(RecentTotalsTest, AYoungServerShowsAllThatThereIs) {
  const RecentTotals recent;
  EXPECT_EQ(recent.growth(asked(10), kSecond, kMinute).asked, 10U);
  EXPECT_EQ(WatchedTotals{}.l1_rate(), 0.0);
}

TEST(RecentTotalsTest, AWindowHasWhatCameWithinIt) {
  RecentTotals recent;
  std::uint64_t total = 0;
  const std::uint64_t begin = 1000 * kSecond;
  for (std::uint64_t s = 0; s <= 1800; ++s) {
    const std::uint64_t now = begin + s * kSecond;
    if (recent.is_due(now)) recent.note(now - kSecond, now, asked(total));
    total += 10;
  }
  const std::uint64_t now = begin + 1800 * kSecond;
  const WatchedTotals minute = recent.growth(asked(total), now, kMinute);
  EXPECT_GE(minute.asked, 600U);
  EXPECT_LE(minute.asked, 600U + 70U);
  EXPECT_DOUBLE_EQ(minute.l1_rate(), 0.5);
  EXPECT_EQ(minute.hit_l1 + minute.missed[1], minute.asked);
  const WatchedTotals longest = recent.growth(asked(total), now, RecentTotals::kWindowNsMax);
  EXPECT_GE(longest.asked, 9000U);
  EXPECT_LE(longest.asked, 9000U + 70U);
}

/// It slept from 6 s to 1000 s; earlier growth is not in the last minute.
TEST(RecentTotalsTest, ALongSleepIsNoPartOfTheWindow) {
  RecentTotals recent;
  recent.note(0, 5 * kSecond, asked(0));
  // At 6 s it did something.
  recent.note(6 * kSecond, 1000 * kSecond, asked(100));
  EXPECT_EQ(recent.growth(asked(130), 1001 * kSecond, kMinute).asked, 30U);
  EXPECT_EQ(recent.growth(asked(130), 1001 * kSecond, 15 * kMinute).asked, 30U);
}

TEST(RecentTotalsTest, ASampleIsDueOnceInAStep) {
  RecentTotals recent;
  EXPECT_TRUE(recent.is_due(kSecond));
  recent.note(0, kSecond, asked(0));
  EXPECT_FALSE(recent.is_due(kSecond + RecentTotals::kStepNs - 1));
  EXPECT_TRUE(recent.is_due(kSecond + RecentTotals::kStepNs));
}

}  // namespace
}  // namespace larder::server
