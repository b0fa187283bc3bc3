#include "larder/connectors/log/index/key_guard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "larder/base/random.h"

namespace larder::log_store {
namespace {

TEST(PlaceTest, GenerationComesBeforeOffsetAndADefaultOneBeforeAll) {
  EXPECT_LT((Place{1, 900}), (Place{2, 0}));
  EXPECT_LT((Place{2, 0}), (Place{2, 4096}));
  EXPECT_EQ((Place{2, 4096}), (Place{2, 4096}));
  EXPECT_LT(Place{}, (Place{1, 0}));
}

TEST(KeyGuardTest, AKeyIsBusyUntilItsLastOperationLeaves) {
  KeyGuard guard;
  const Fingerprint zero;
  EXPECT_FALSE(guard.busy(zero));

  guard.enter(zero);
  guard.enter(zero);
  EXPECT_TRUE(guard.busy(zero));
  EXPECT_FALSE(guard.busy({.low = 0, .high = 1}));
  EXPECT_EQ(guard.busy_keys(), 1U);
  guard.leave(zero);
  EXPECT_TRUE(guard.busy(zero));
  guard.leave(zero);
  EXPECT_FALSE(guard.busy(zero));
  EXPECT_EQ(guard.busy_keys(), 0U);
}

TEST(KeyGuardTest, TheLatestPlaceIsKeptWhileTheKeyIsBusy) {
  KeyGuard guard;
  const Fingerprint key{.low = 5, .high = 6};
  guard.enter(key);
  EXPECT_EQ(guard.last_published(key), Place{});

  guard.note_published(key, {2, 8192});
  guard.note_published(key, {2, 4096});
  guard.note_published(key, {1, 65536});
  EXPECT_EQ(guard.last_published(key), (Place{2, 8192}));
  guard.enter(key);
  guard.leave(key);
  EXPECT_EQ(guard.last_published(key), (Place{2, 8192}));

  guard.leave(key);
  EXPECT_EQ(guard.last_published(key), Place{});
  guard.enter(key);
  EXPECT_EQ(guard.last_published(key), Place{});
}

TEST(KeyGuardTest, RandomUseMatchesAMapAlsoWithOneHomeForAll) {
  struct Known {
    std::uint64_t operations = 0;
    Place published;
    Place store;
    Place erased;
  };
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  std::vector<Fingerprint> universe;
  universe.reserve(1'000);
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    // A third crowds the last slot of the table and so goes round its end.
    universe.push_back({.low = i % 3 == 0 ? UINT64_MAX : random.next(), .high = i});
  }
  KeyGuard guard;
  std::map<std::uint64_t, Known> model;

  for (std::uint64_t step = 0; step < 50'000; ++step) {
    const Fingerprint& key = universe[random.below(universe.size())];
    const auto known = model.find(key.high);
    const bool grows = step / 5'000 % 2 == 0;
    if (known != model.end() && random.one_in(3)) {
      const Place place{1 + random.below(4), random.below(100)};
      switch (random.below(3)) {
        case 0:
          guard.note_published(key, place);
          known->second.published = std::max(known->second.published, place);
          break;
        case 1:
          guard.note_store(key, place);
          known->second.store = std::max(known->second.store, place);
          break;
        default:
          guard.note_delete(key, place);
          known->second.erased = std::max(known->second.erased, place);
      }
    } else if (known != model.end() && random.below(4) < (grows ? 1U : 3U)) {
      guard.leave(key);
      if (--known->second.operations == 0) model.erase(known);
    } else if (grows || random.one_in(4)) {
      guard.enter(key);
      ++model[key.high].operations;
    }
    ASSERT_EQ(guard.busy_keys(), model.size());
    if (step % 100 != 0) continue;
    for (const Fingerprint& one : universe) {
      const auto expected = model.find(one.high);
      ASSERT_EQ(guard.busy(one), expected != model.end());
      ASSERT_EQ(guard.last_published(one),
                expected != model.end() ? expected->second.published : Place{});
      ASSERT_EQ(guard.last_store(one), expected != model.end() ? expected->second.store : Place{});
      ASSERT_EQ(guard.last_delete(one),
                expected != model.end() ? expected->second.erased : Place{});
    }
  }
}

TEST(KeyGuardDeathTest, LeavingOrPublishingWithoutEnteringIsABug) {
  KeyGuard guard;

  EXPECT_DEATH(guard.leave({.low = 1, .high = 2}), "LARDER_CHECK");
  EXPECT_DEATH(guard.note_published({.low = 1, .high = 2}, {1, 0}), "LARDER_CHECK");
}

}  // namespace
}  // namespace larder::log_store
