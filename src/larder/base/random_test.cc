#include "larder/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace larder {
namespace {

TEST(RandomTest, GivesThePublishedSequence) {
  // xoshiro256** with its state from splitmix64(0), as rand_xoshiro's seed_from_u64(0) gives it.
  Random random{0};
  EXPECT_EQ(random.next(), 11091344671253066420U);
  EXPECT_EQ(random.next(), 13793997310169335082U);
  EXPECT_EQ(random.next(), 1900383378846508768U);
}

TEST(RandomTest, BelowReachesEveryNumberAndNoOther) {
  Random random{7};
  std::array<int, 10> seen{};
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t number = random.below(seen.size());
    ASSERT_LT(number, seen.size());
    ++seen[number];
  }
  for (const int times : seen) {
    EXPECT_GT(times, 850);
    EXPECT_LT(times, 1150);
  }
  EXPECT_EQ(random.below(1), 0U);
  EXPECT_EQ(random.below(0), 0U);
}

TEST(RandomTest, OneInNIsTrueOnceInNTimes) {
  Random random{8};
  int hits = 0;
  for (int i = 0; i < 100'000; ++i) hits += random.one_in(100) ? 1 : 0;
  EXPECT_GT(hits, 850);
  EXPECT_LT(hits, 1150);
  EXPECT_TRUE(random.one_in(1));
  EXPECT_FALSE(random.one_in(0));
}

TEST(RandomTest, UnitIsUniformFromZeroToBelowOne) {
  Random random{9};
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double unit = random.unit();
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
    sum += unit;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.01);
}

TEST(RandomTest, FillIsDeterministicAndWritesEveryLengthExactly) {
  for (std::size_t length = 0; length < 200; ++length) {
    std::vector<std::byte> a(length + 1, std::byte{0xAB});
    std::vector<std::byte> b(length + 1, std::byte{0xCD});
    Random one{length};
    Random same{length};
    one.fill(std::span{a}.first(length));
    same.fill(std::span{b}.first(length));
    EXPECT_TRUE(std::equal(a.begin(), a.end() - 1, b.begin())) << length;
    EXPECT_EQ(a.back(), std::byte{0xAB});
    EXPECT_EQ(one.next(), same.next());
  }
}

TEST(RandomTest, FillGivesIncompressibleBytesThatDifferPerCallAndSeed) {
  std::vector<std::byte> first(1 << 20);
  std::vector<std::byte> second(1 << 20);
  Random random{3};
  random.fill(first);
  random.fill(second);
  EXPECT_NE(first, second);
  std::vector<std::byte> other(1 << 20);
  Random{4}.fill(other);
  EXPECT_NE(first, other);

  // 4,096 expected of each byte value, standard deviation 64.
  std::array<int, 256> counts{};
  for (const std::byte byte : first) ++counts[std::to_integer<std::size_t>(byte)];
  const auto [least, most] = std::ranges::minmax(counts);
  EXPECT_GT(least, 4096 - 6 * 64);
  EXPECT_LT(most, 4096 + 6 * 64);

  // No word occurs twice, neither in a lane nor between lanes.
  std::vector<std::uint64_t> words(first.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), first.data(), first.size());
  std::ranges::sort(words);
  EXPECT_EQ(std::ranges::adjacent_find(words), words.end());
}

}  // namespace
}  // namespace larder
