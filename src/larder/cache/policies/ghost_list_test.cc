#include "larder/cache/policies/ghost_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>

#include "larder/base/random.h"

namespace larder::cache {
namespace {

TEST(GhostListTest, TheOldestGivesWay) {
  GhostList ghosts{2};
  ghosts.push(1, 10);
  ghosts.push(2, 20);
  ghosts.push(3, 30);
  EXPECT_FALSE(ghosts.contains(1));
  EXPECT_TRUE(ghosts.contains(2));
  EXPECT_EQ(ghosts.size(), 2U);
  EXPECT_EQ(ghosts.bytes(), 50U);
  ghosts.drop_oldest();
  EXPECT_FALSE(ghosts.contains(2));
  EXPECT_TRUE(ghosts.erase(3));
  EXPECT_FALSE(ghosts.erase(3));
  EXPECT_EQ(ghosts.bytes(), 0U);
}

TEST(GhostListTest, AGhostThatComesAgainIsTheNewest) {
  GhostList ghosts{2};
  ghosts.push(1, 10);
  ghosts.push(2, 20);
  ghosts.push(1, 11);
  EXPECT_EQ(ghosts.size(), 2U);
  EXPECT_EQ(ghosts.bytes(), 31U);
  ghosts.push(3, 30);
  EXPECT_FALSE(ghosts.contains(2));
  EXPECT_TRUE(ghosts.contains(1));
}

TEST(GhostListTest, NoneAtAll) {
  GhostList ghosts{0};
  ghosts.push(1, 10);
  EXPECT_FALSE(ghosts.contains(1));
  EXPECT_FALSE(ghosts.erase(1));
  EXPECT_EQ(ghosts.size(), 0U);
}

TEST(GhostListTest, RandomHistoriesAgreeWithADeque) {
  for (const std::size_t most : {std::size_t{40}, std::size_t{700}}) {
    GhostList ghosts{most};
    std::deque<std::pair<std::uint64_t, std::uint64_t>> model;
    Random random{most};
    const auto find = [&](std::uint64_t fingerprint) {
      return std::ranges::find(model, fingerprint, [](const auto& ghost) { return ghost.first; });
    };
    for (int step = 0; step < 40'000; ++step) {
      // Neighbouring numbers and multiples of a power of two: a poor hash would cluster them.
      const std::uint64_t number = random.below(1000);
      const std::uint64_t fingerprint = number % 2 == 0 ? number : number << 40;
      if (random.below(3) < 2) {
        const std::uint64_t bytes = random.below(100);
        if (const auto at = find(fingerprint); at != model.end()) model.erase(at);
        if (model.size() == most) model.pop_front();
        model.emplace_back(fingerprint, bytes);
        ghosts.push(fingerprint, bytes);
      } else if (random.one_in(10) && !model.empty()) {
        model.pop_front();
        ghosts.drop_oldest();
      } else {
        const auto at = find(fingerprint);
        ASSERT_EQ(ghosts.contains(fingerprint), at != model.end());
        ASSERT_EQ(ghosts.erase(fingerprint), at != model.end());
        if (at != model.end()) model.erase(at);
      }
      ASSERT_EQ(ghosts.size(), model.size());
      std::uint64_t bytes = 0;
      for (const auto& ghost : model) bytes += ghost.second;
      ASSERT_EQ(ghosts.bytes(), bytes);
    }
  }
}

TEST(GhostListTest, NotesAreFoundAndSampled) {
  GhostList ghosts{3};
  EXPECT_EQ(ghosts.find(1), nullptr);
  for (std::uint64_t number = 1; number <= 4; ++number) ghosts.push(number, 10, number * 100);
  EXPECT_EQ(ghosts.find(1), nullptr) << "the oldest has made room";
  ASSERT_NE(ghosts.find(3), nullptr);
  EXPECT_EQ(ghosts.find(3)->note, 300U);
  ghosts.erase(2);
  std::uint64_t sum = 0;
  std::size_t empty = 0;
  for (std::size_t place = 0; place < ghosts.places(); ++place) {
    const GhostList::Ghost* const ghost = ghosts.at(place);
    sum += ghost == nullptr ? 0 : ghost->note;
    empty += ghost == nullptr ? 1 : 0;
  }
  EXPECT_EQ(sum, 700U);
  EXPECT_EQ(empty, 1U);
  ghosts.push(5, 10, 500);
  EXPECT_EQ(ghosts.places(), 3U) << "a free place is used again";
}

TEST(GhostListTest, ReservingMovesNothing) {
  GhostList ghosts{1000};
  for (std::uint64_t number = 0; number < 50; ++number) ghosts.push(number, 1, number);
  ghosts.reserve(400);
  for (std::uint64_t number = 50; number < 400; ++number) ghosts.push(number, 1, number);
  for (std::uint64_t number = 0; number < 400; ++number) {
    ASSERT_NE(ghosts.find(number), nullptr);
    EXPECT_EQ(ghosts.find(number)->note, number);
  }
  EXPECT_EQ(ghosts.bytes(), 400U);
}

}  // namespace
}  // namespace larder::cache
