#include "larder/cache/policies/prefix_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/policies/chain_cache_test_support.h"
#include "larder/cache/policies/lru.h"
#include "larder/cache/policies/lru_guard.h"
#include "larder/cache/policies/reuse_model.h"

namespace larder::cache {
namespace {

using testing::Adversary;
using testing::Workload;

Workload workload_of(const std::string& name) {
  for (const Adversary& adversary : testing::adversaries()) {
    if (adversary.name == name) return adversary.make();
  }
  ADD_FAILURE() << "no adversary is called " << name;
  return {};
}

struct Misses {
  double own = 0;
  double lru = 0;
  double optimum = 0;
};

Misses misses_of(const Workload& workload, std::size_t capacity) {
  PrefixPolicy policy{{.capacity_bytes = capacity, .seed = 1}};
  const auto missed = [&](std::uint64_t hits) {
    return static_cast<double>(workload.references() - hits);
  };
  return {.own = missed(testing::hits_of(policy, workload, capacity)),
          .lru = missed(testing::lru_hits(workload, capacity)),
          .optimum = missed(testing::optimal_hits(workload, capacity))};
}

// ---- Never worse than LRU -----------------------------------------------------------------------

class AdversaryTest : public ::testing::TestWithParam<Adversary> {
 protected:
  /// How much more than LRU it may miss at this size.
  static double most(const std::string& name, std::size_t capacity) {
    // LRU holds the whole loop at this size and a part of it at the previous one: columns evicted
    // until the first round ends are missed once, and the history is short.
    return name == "Mix" && capacity == 15'000 ? 1.03 : 1.01;
  }
};

TEST_P(AdversaryTest, MissesAtMostOneInAHundredMoreThanLru) {
  const Workload workload = GetParam().make();
  for (const std::size_t capacity : {500, 1000, 3000, 10'000, 15'000}) {
    const Misses misses = misses_of(workload, capacity);
    EXPECT_LE(misses.own, most(GetParam().name, capacity) * misses.lru) << capacity;
    EXPECT_GE(misses.own, misses.optimum) << capacity;
  }
}

std::string adversary_name(const ::testing::TestParamInfo<Adversary>& adversary) {
  return adversary.param.name;
}
INSTANTIATE_TEST_SUITE_P(All, AdversaryTest, ::testing::ValuesIn(testing::adversaries()),
                         adversary_name);

// ---- Better where there is something to learn ---------------------------------------------------

TEST(PrefixPolicyTest, LearnsWhatIsUsedAgain) {
  struct Expected {
    const char* name;
    std::size_t capacity;
    double gap;  ///< The closed part of the gap between LRU's misses and the fewest possible.
  };
  for (const Expected& expected :
       {Expected{"Loop", 10'000, 0.9}, Expected{"ScanAndHotSet", 3000, 0.6},
        Expected{"OneTimePrompts", 3000, 0.8}, Expected{"ZipfFlat", 3000, 0.25},
        Expected{"SharedPrompts", 3000, 0.8}, Expected{"TouchedTwice", 3000, 0.6},
        Expected{"ManyTenants", 1000, 0.25}, Expected{"Mix", 10'000, 0.6}}) {
    const Misses misses = misses_of(workload_of(expected.name), expected.capacity);
    EXPECT_GE(misses.lru - misses.own, expected.gap * (misses.lru - misses.optimum))
        << expected.name;
  }
}

TEST(PrefixPolicyTest, TheSameSeedEvictsTheSame) {
  const Workload workload = workload_of("ManyTenants");
  const auto victims = [&](std::uint64_t seed) {
    PrefixPolicy policy{{.capacity_bytes = 1000, .seed = seed}};
    testing::ChainCache cache{policy, 1000, workload.blocks()};
    for (std::size_t i = 0; i < workload.requests(); ++i) cache.request(workload.chain(i));
    return cache.victims();
  };
  const auto first = victims(1);
  EXPECT_EQ(first, victims(1));
  EXPECT_NE(first, victims(2));
}

TEST(PrefixPolicyTest, ATailLeavesBeforeItsHead) {
  for (const char* name : {"ManyTenants", "SharedPrompts", "Mix", "ChangingPhases"}) {
    const Workload workload = workload_of(name);
    PrefixPolicy policy{{.capacity_bytes = 1000}};
    testing::ChainCache cache{policy, 1000, workload.blocks()};
    for (std::size_t i = 0; i < workload.requests(); ++i) cache.request(workload.chain(i));
    ASSERT_GT(cache.victims().size(), 10'000U) << name;
    // Resident columns behind a hole take room without a hit.
    EXPECT_LT(cache.behind_holes(), workload.references() / 500) << name;
  }
}

TEST(PrefixPolicyTest, WithoutFreedomItIsLru) {
  // The same calls to both, with all hits reported as lost: the guard must end the freedom, and
  // from then on the victims are LRU's.
  PrefixPolicy policy{{.capacity_bytes = 400}};
  LruPolicy lru{{}};
  Random random{1};
  std::vector<bool> is_resident(2000);
  std::uint64_t stamp = 0;
  std::size_t compared = 0;
  for (int step = 0; step < 60'000; ++step) {
    const auto block = static_cast<ColumnId>(std::min(random.below(2000), random.below(2000)));
    policy.begin_chain({.chunks = 1, .resident = 0, .end = 1});
    ++stamp;
    if (is_resident[block]) {
      policy.touch(block, stamp);
      lru.touch(block, stamp);
      continue;
    }
    if (policy.columns() == 400) {
      std::array<ColumnId, 8> victims{};
      std::array<ColumnId, 8> of_lru{};
      ASSERT_EQ(policy.coldest(victims), 8U);
      ASSERT_EQ(lru.coldest(of_lru), 8U);
      if (policy.guard().freedom() == 0) {
        ASSERT_EQ(victims, of_lru);
        ++compared;
      }
      policy.erase(victims[0], Removal::kEvicted);
      lru.erase(victims[0], Removal::kEvicted);
      is_resident[victims[0]] = false;
    }
    policy.insert(block, block, 1, stamp);
    lru.insert(block, block, 1, stamp);
    is_resident[block] = true;
  }
  EXPECT_GT(compared, 10'000U);
}

TEST(PrefixPolicyTest, WhatItRemembersIsBounded) {
  // 100,000 columns pass through 100 places; the policy's memory may not grow with them.
  PrefixPolicy policy{{.capacity_bytes = 100}};
  for (ColumnId column = 0; column < 100'000; ++column) {
    if (column >= 100) {
      ColumnId victim = 0;
      ASSERT_EQ(policy.coldest({&victim, 1}), 1U);
      policy.erase(victim, Removal::kEvicted);
    }
    policy.begin_chain({.chunks = 1, .resident = 0, .end = 1});
    policy.insert(column, column, 1, column + 1);
  }
  EXPECT_EQ(policy.columns(), 100U);
  EXPECT_LE(policy.remembered(), 100U * 6);
}

TEST(PrefixPolicyTest, ComparesItselfByItsOldestColumn) {
  // Its first victim may have been used a moment ago, which would make a partition look hot.
  const Workload workload = workload_of("Loop");
  PrefixPolicy policy{{.capacity_bytes = 3000}};
  testing::ChainCache cache{policy, 3000, workload.blocks()};
  std::size_t young = 0;
  for (std::size_t i = 0; i < workload.requests(); ++i) {
    cache.request(workload.chain(i));
    ColumnId victim = 0;
    if (i % 10 != 0 || policy.columns() < 3000) continue;
    policy.coldest({&victim, 1});
    const std::uint64_t oldest = policy.coldest_stamp();
    ASSERT_LE(oldest, cache.stamp_of(victim));
    young += oldest < cache.stamp_of(victim) ? 1 : 0;
  }
  EXPECT_GT(young, 100U);
}

// ---- The guard ----------------------------------------------------------------------------------

TEST(LruGuardTest, TakesFreedomWhereItLosesAndGivesItBackAfterTheLossIsPaidOff) {
  LruGuard guard;
  guard.begin(1);
  ASSERT_GT(guard.freedom(), 0);
  int lost = 0;
  for (; guard.freedom() > 0; ++lost) guard.note(false, true, 1000);
  EXPECT_EQ(lost, 2 * (64 + 1)) << "a stake for each step";
  for (; lost < 300; ++lost) guard.note(false, true, 1000);
  int misses = 0;
  for (; guard.freedom() == 0 && misses < 1'000'000; ++misses) guard.note(false, false, 1000);
  // The last stake, the further losses, and nine tenths of one to begin with.
  EXPECT_NEAR(misses, (300 - 65 + 0.9 * 64) / LruGuard::kAllowance, 400);
}

TEST(LruGuardTest, WhatWasGainedCoversLosses) {
  LruGuard guard;
  for (int i = 0; i < 1000; ++i) guard.begin(100);
  for (int i = 0; i < 100'000; ++i) guard.note(true, false, 1000);
  int lost = 0;
  const double before = guard.freedom();
  for (; guard.freedom() == before; ++lost) guard.note(false, true, 1000);
  EXPECT_NEAR(lost, (LruGuard::kCreditRequests + 1) * 100, 2) << "and not 100,000 of them";
}

TEST(LruGuardTest, OneRequestIsNoReason) {
  LruGuard guard;
  for (int i = 0; i < 1000; ++i) guard.begin(500);
  for (int i = 0; i < 490; ++i) guard.note(false, true, 1000);
  EXPECT_EQ(guard.changes(), 0U);
}

// ---- The model ----------------------------------------------------------------------------------

TEST(ReuseModelTest, BucketsAreTwoAnOctave) {
  EXPECT_EQ(ReuseModel::bucket_of(0), 0U);
  EXPECT_EQ(ReuseModel::bucket_of(7), 0U);
  EXPECT_EQ(ReuseModel::bucket_of(8), 1U);
  EXPECT_EQ(ReuseModel::bucket_of(11), 1U);
  EXPECT_EQ(ReuseModel::bucket_of(12), 2U);
  EXPECT_EQ(ReuseModel::bucket_of(16), 3U);
  EXPECT_EQ(ReuseModel::bucket_of(0xFFFF'FFFF), ReuseModel::kBuckets - 1);
  for (std::uint32_t age = 1; age < 1'000'000; ++age) {
    const auto step = ReuseModel::bucket_of(age) - ReuseModel::bucket_of(age - 1);
    ASSERT_LE(step, 1U) << age;
  }
}

TEST(ReuseModelTest, BeforeItLearnsOldColumnsAreWorthLess) {
  const ReuseModel model{2};
  for (std::uint32_t age = 8; age < 1'000'000; age *= 2) {
    EXPECT_LT(model.index(0, 2 * age), model.index(0, age)) << age;
    EXPECT_EQ(model.index(0, age), model.index(1, age));
  }
}

TEST(ReuseModelTest, LearnsClassesAndAges) {
  ReuseModel model{3};
  for (int round = 0; round < 50; ++round) {
    for (std::uint32_t age = 0; age < 10'000; age += 10) {
      // Class 0 is used again at any age, class 1 never, class 2 when it is 5,000 old.
      for (std::size_t kind = 0; kind < 3; ++kind) model.note_exposure(kind, age, 1000);
      model.note_reuse(0, age, 1);
      if (age >= 4800 && age < 5200) model.note_reuse(2, age, 25);
    }
    for (std::size_t i = 0; i < model.classes(); ++i) model.fit_next(1000);
  }
  EXPECT_GT(model.index(0, 100), 10 * model.index(1, 100));
  EXPECT_GT(model.index(2, 4500), 2 * model.index(2, 100)) << "the nearer to its use, the better";
  EXPECT_GT(model.index(2, 4500), model.index(0, 4500));
  EXPECT_LT(model.index(2, 9000), model.index(0, 9000));
}

}  // namespace
}  // namespace larder::cache
