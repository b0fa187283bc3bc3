// The engine's counts for metrics alone: by space, by tier, ages and rates.
#include "larder/cache/engine_stats.h"

#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineStatsTest : public EngineTierFixture {};

TEST_F(EngineStatsTest, LookupsAreCountedBySpaceAndFurtherSpacesTogether) {
  add_model();
  const SpaceId first = space_;
  store(chain_of(1, 2));
  look_up("a", chain_of(1, 3));
  for (std::uint32_t salt = 1; salt < kSpacesCounted + 5; ++salt) {
    space_ = engine().space(layout_, SaltId{salt});
    look_up("r", chain_of(1, 4));
  }
  space_ = first;

  const EngineTotals totals = stats().totals;
  ASSERT_EQ(totals.spaces.size(), kSpacesCounted + 1);
  EXPECT_EQ(totals.spaces[0].asked, 3U);
  EXPECT_EQ(totals.spaces[0].hit_l1, 2U);
  EXPECT_EQ(totals.spaces[1].lookups, 1U);
  EXPECT_EQ(totals.spaces[kSpacesCounted].lookups, 5U);
  LookupTotals sum;
  for (const LookupTotals& of_space : totals.spaces) sum += of_space;
  EXPECT_EQ(sum.lookups, totals.lookups);
  EXPECT_EQ(sum.asked, totals.asked);
}

TEST_F(EngineStatsTest, BatchesAreCountedByTierWithTheirRate) {
  ScriptedTier& first = add_tier();
  add_tier({.load = false, .store = false});
  first.holds = true;
  add_model();
  store(chain_of(1, 4));
  EXPECT_EQ(stats().totals.tiers[0].stores, 1U);
  EXPECT_EQ(stats().totals.tiers[0].stores_ended, 0U);

  now_ns += kSecond;
  engine().turn(now_ns);
  first.finish_all();
  reap();

  const TierTotals tier = stats().totals.tiers[0];
  EXPECT_EQ(tier.stores_ended, 1U);
  EXPECT_EQ(tier.store_cells, 4U);
  EXPECT_EQ(tier.cells_stored, 4U);
  EXPECT_EQ(tier.store_rate.count, 1U);
  EXPECT_EQ(tier.store_rate.sum, 4 * kGrain) << "bytes a second";
  EXPECT_EQ(stats().totals.tiers[1].stores, 0U);
}

TEST_F(EngineStatsTest, LoadsAreCountedAndLookupsThatL1DecidesAreNot) {
  ScriptedTier& tier = add_model_over_holding_tier(chain_of(1, 3));
  start_lookup("r", chain_of(1, 3));
  now_ns += kSecond;
  engine().turn(now_ns);
  tier.finish_all();
  reap();
  EXPECT_EQ(result("r"), 3U);
  look_up("s", chain_of(1, 3));

  const EngineTotals totals = stats().totals;
  EXPECT_EQ(totals.lookups, 2U);
  EXPECT_EQ(totals.lookups_to_l2, 1U);
  EXPECT_EQ(totals.tiers[0].loads, 1U);
  EXPECT_EQ(totals.tiers[0].loads_ended, 1U);
  EXPECT_EQ(totals.tiers[0].load_cells, 3U);
  EXPECT_EQ(totals.tiers[0].load_rate.sum, 3 * kGrain);
}

TEST_F(EngineStatsTest, AFailedBatchHasNoRateAndWhatIsGivenUpIsTheTiers) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 1);
  tier.failing_stores.insert(key_of(chain[0]));
  store(chain);
  for (int i = 0; i < 10; ++i) advance_all(options.tier_retry_ns);

  const TierTotals totals = stats().totals.tiers[0];
  EXPECT_EQ(totals.store_failed, 1U);
  EXPECT_EQ(totals.cells_stored, 0U);
  EXPECT_EQ(totals.stores, totals.stores_ended);
  EXPECT_EQ(totals.store_rate.count, 0U);
}

TEST_F(EngineStatsTest, WhatLeavesBeforeItIsStoredIsLostToEachTierThatWantedIt) {
  capacity_cells = 8;
  for (int i = 0; i < 2; ++i) add_tier().refuses = ErrorCode::kUnavailable;
  add_tier({.store = false});
  add_model();
  store(chain_of(1, 8));
  store(chain_of(2, 3));

  const EngineTotals totals = stats().totals;
  EXPECT_EQ(totals.l2_store_lost, 3U);
  EXPECT_EQ(totals.tiers[0].store_lost, 3U);
  EXPECT_EQ(totals.tiers[1].store_lost, 3U);
  EXPECT_EQ(totals.tiers[2].store_lost, 0U);
}

TEST_F(EngineStatsTest, AgesAreThoseOfColumnsAtTheirUseAndEviction) {
  capacity_cells = 8;
  add_model();
  store(chain_of(1, 8));
  advance(10 * kSecond);
  look_up("r", chain_of(1, 8));
  end("r");
  advance(20 * kSecond);
  store(chain_of(2, 8));

  const EngineTotals totals = stats().totals;
  EXPECT_EQ(totals.reuse_gap.count, 8U);
  EXPECT_EQ(totals.reuse_gap.sum, 8 * 10'000U);
  EXPECT_EQ(totals.evicted_age.count, 8U);
  EXPECT_EQ(totals.evicted_age.sum, 8 * 30'000U);
  EXPECT_EQ(totals.evicted_idle.sum, 8 * 20'000U);
  EXPECT_EQ(totals.evicted_idle.counts[3], 8U) << "above 15 and up to 30 s";
}

TEST_F(EngineStatsTest, AColumnThatComesBackHasAGapSinceItsEviction) {
  capacity_cells = 8;
  add_model();
  store(chain_of(1, 8));
  store(chain_of(2, 8));
  EXPECT_EQ(stats().totals.evicted_gap.count, 0U);
  advance(7 * kSecond);
  store(chain_of(1, 8));
  EXPECT_EQ(stats().totals.evicted_gap.count, 8U);
  EXPECT_EQ(stats().totals.evicted_gap.sum, 8 * 7'000U);
}

TEST_F(EngineStatsTest, TurnsWithEvictionsAreCounted) {
  capacity_cells = 8;
  add_model();
  store(chain_of(1, 8));
  advance(kSecond);
  EXPECT_EQ(stats().totals.turns_evicting, 0U);
  store(chain_of(2, 2));
  advance(kSecond);
  advance(kSecond);
  EXPECT_EQ(stats().totals.turns_evicting, 1U);
  EXPECT_GE(stats().totals.turns, 3U);
}

TEST_F(EngineStatsTest, ReadsAndWritesHaveTheirBytesAndTimes) {
  add_model();
  const auto chain = chain_of(1, 4);
  const auto write = begin_write(0, chain, {0, 4});
  ASSERT_TRUE(write);
  advance(kSecond);
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  EXPECT_EQ(stats().totals.write_rate.sum, 4 * kGrain);

  const auto read = begin_read(read_spec("r", 0, chain, {0, 4}));
  ASSERT_TRUE(read);
  advance(2 * kSecond);
  engine().end_read(*read);
  EXPECT_EQ(stats().totals.read_rate.sum, 2 * kGrain);
  EXPECT_EQ(stats().totals.cells_read, 4U);

  EXPECT_FALSE(begin_read(read_spec("r", 0, chain_of(2, 4), {0, 4})));
  EXPECT_EQ(stats().totals.chunks_read_failed, 4U);
}

TEST_F(EngineStatsTest, RoomThatALoadDoesNotGetIsTold) {
  capacity_cells = 4;
  add_model();
  ASSERT_TRUE(begin_write(0, chain_of(1, 4), {0, 4}));
  EXPECT_FALSE(begin_write(0, chain_of(2, 2), {0, 2}));
  EXPECT_EQ(stats().totals.allocations_failed, 1U);
  EXPECT_EQ(stats().totals.load_allocations_failed, 0U);
}

}  // namespace
}  // namespace larder::cache
