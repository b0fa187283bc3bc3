// Lookups over L1 and tiers: their questions, the loads they join, their early ends: E5, E11, E23.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineLookupTest : public EngineTierFixture {};

TEST_F(EngineLookupTest, WhatATierHasIsLoadedAndLocked) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 8);
  put(tier, std::span{chain}.first(5));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 5U);
  EXPECT_EQ(locked_cells(), 5U);
  EXPECT_EQ(stats().totals.hit_l2, 5U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 5U);
  const auto read = begin_read(read_spec("r", 0, chain, {0, 5}));
  ASSERT_TRUE(read);
  engine().end_read(*read);
}

TEST_F(EngineLookupTest, L1ComesFirst) {
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  const auto chain = chain_of(1, 8);
  put(tier, chain);
  store(std::span{chain}.first(3));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 8U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 5U);
  EXPECT_EQ(stats().totals.hit_l1, 3U);
  EXPECT_EQ(stats().totals.hit_l2, 5U);
}

TEST_F(EngineLookupTest, WhatL1HasWholeIsAnsweredWithoutAQuestion) {
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);

  EXPECT_EQ(look_up("r", chain), 4U);
  EXPECT_EQ(tier.probes, 0);
}

TEST_F(EngineLookupTest, TheSecondLookupOfAPrefixDoesNoIoWhileL1HasRoom) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("a", chain);
  reap();
  end("a");

  EXPECT_EQ(look_up("b", chain), 4U);

  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);
}

TEST_F(EngineLookupTest, AMissInL2IsAnsweredInTheSameTurnByAProbe) {
  add_tier();
  add_model();

  EXPECT_EQ(look_up("r", chain_of(1, 4)), 0U);
  EXPECT_EQ(stats().totals.probed_keys, 4U);
}

// ---- E23.

TEST_F(EngineLookupTest, WithoutAProbeItAsksInPiecesTwoAhead) {
  options.exists_keys_max = 4;
  ScriptedTier& tier = add_tier();
  tier.has_probe = false;
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 20);
  put(tier, chain);

  start_lookup("r", chain);
  EXPECT_EQ(tier.calls_of(Op::kExists), 2U);
  tier.finish(*tier.held.front());
  reap();
  EXPECT_EQ(tier.calls_of(Op::kExists), 3U);
  tier.holds = false;
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 20U);
  EXPECT_EQ(tier.calls_of(Op::kExists), 5U);
}

TEST_F(EngineLookupTest, ALookupOfManyRanksAsksForNoMoreCellsThanItsBound) {
  add_tier();
  add_model(256);
  start_lookup("r", chain_of(1, 5000));
  EXPECT_EQ(result("r"), 0U);
  EXPECT_EQ(stats().totals.asked, (1U << 20U) / 256);
}

TEST_F(EngineLookupTest, AHoleEndsTheQuestion) {
  options.exists_keys_max = 4;
  ScriptedTier& tier = add_tier();
  tier.has_probe = false;
  add_model();
  const auto chain = chain_of(1, 100);
  put(tier, std::span{chain}.first(6));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 6U);
  EXPECT_LE(tier.keys_of(Op::kExists).size(), 16U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 6U);
}

TEST_F(EngineLookupTest, ACellComesFromTheFirstTierThatHasIt) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);
  put(first, std::span{chain}.subspan(2, 2));
  put(second, chain);

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 6U);
  EXPECT_EQ(first.keys_of(Op::kGet).size(), 2U);
  EXPECT_EQ(second.keys_of(Op::kGet).size(), 4U);
}

TEST_F(EngineLookupTest, ATierThatIsNotLoadedFromIsNotAsked) {
  ScriptedTier& tier = add_tier({.load = false});
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(tier.probes, 0);
}

TEST_F(EngineLookupTest, AValueOfAnotherSizeIsAMiss) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  tier.sizes[key_of(chain[2])] = 100;

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 2U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kOtherLayout)], 2U);
}

TEST_F(EngineLookupTest, AllRanksAndGroupsMustBeThereInOneTierOrAnother) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model(2);
  const auto chain = chain_of(1, 4);
  for (const ChunkHash& chunk : chain) {
    first.sizes[key_of(chunk, 0)] = kGrain;
    second.sizes[key_of(chunk, 1)] = kGrain;
  }
  second.sizes.erase(key_of(chain[3], 1));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 3U);
  EXPECT_EQ(locked_cells(), 6U);
}

TEST_F(EngineLookupTest, AWindowedRowIsLoadedAtItsEndOnly) {
  ScriptedTier& tier = add_tier();
  add_model(1, {0, 2});
  const auto chain = chain_of(1, 6);
  for (const ChunkHash& chunk : chain) {
    tier.sizes[key_of(chunk, 0, 0)] = kGrain;
    tier.sizes[key_of(chunk, 0, 1)] = kGrain;
  }

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 6U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 6U + 2U);
  EXPECT_EQ(locked_cells(), 8U);
}

// ---- E5: joins.

TEST_F(EngineLookupTest, ASecondLoaderJoinsTheFirst) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);

  start_lookup("a", chain);
  start_lookup("b", chain);
  EXPECT_EQ(result("a"), std::nullopt);
  tier.finish_all();
  reap();

  EXPECT_EQ(result("a"), 4U);
  EXPECT_EQ(result("b"), 4U);
  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);
  end("a");
  EXPECT_EQ(locked_cells(), 4U);
}

TEST_F(EngineLookupTest, AWriterThatFinishesFirstEndsTheLoad) {
  ScriptedTier& tier = add_tier({.store = false});
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("r", chain);

  EXPECT_EQ(store(chain), 2U);

  EXPECT_EQ(result("r"), 2U);
  EXPECT_EQ(stats().orphan_bytes, 2 * kGrain);
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().orphan_bytes, 0U);
  EXPECT_EQ(locked_cells(), 2U);
}

// ---- E11.

TEST_F(EngineLookupTest, AFreeDuringTheLookupIsDoneWhenItEnds) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_lookup("r", chain);

  release("r", {0, 3});
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(locked_cells(), 1U);
}

TEST_F(EngineLookupTest, AnEndDuringTheLookupCancelsItsLoads) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_lookup("r", chain);

  end("r");
  reap();

  EXPECT_EQ(tier.cancels, 1);
  EXPECT_EQ(stats().lookups_running, 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineLookupTest, ALoadIsCancelledWhenTheLastThatHasJoinedItEnds) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_lookup("a", chain);
  start_lookup("b", chain);

  end("a");
  EXPECT_EQ(tier.cancels, 0);
  end("b");
  reap();

  EXPECT_EQ(tier.cancels, 1);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineLookupTest, ALoadThatAnotherHasJoinedIsNotCancelled) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_lookup("a", chain);
  start_lookup("b", chain);

  end("a");
  EXPECT_EQ(tier.cancels, 0);
  tier.finish_all();
  reap();

  EXPECT_EQ(result("b"), 4U);
  EXPECT_EQ(locked_cells(), 4U);
}

// ---- The end.

TEST_F(EngineLookupTest, TheEndAnswersLookupsThatWaitForRoom) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier({.store = false});
  tier.holds = true;
  add_model();
  const auto waits = chain_of(2, 9);
  for (std::uint64_t i = 1; i <= 2; ++i) put(tier, chain_of(i, 9));
  store(std::span{waits}.first(2));
  start_lookup("loads", chain_of(1, 9));
  start_lookup("waits", waits);
  engine().wait_result(Ticket{5}, {1, "waits"}, kNever);
  ASSERT_EQ(stats().lookups_waiting, 1U);

  EXPECT_FALSE(engine().drain(now_ns + kSecond));
  ASSERT_EQ(heard.results.size(), 1U);
  EXPECT_EQ(heard.results[0].hit, 2U);
  tier.finish_all();
  reap();
  EXPECT_TRUE(engine().drain(now_ns + kSecond));
  EXPECT_EQ(result("loads"), 9U);
}

}  // namespace
}  // namespace larder::cache
