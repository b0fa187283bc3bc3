// Promotion and stores to L2: E20, E30 to E34.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineStoreTest : public EngineTierFixture {
 protected:
  /// A lookup with its loads, and its end.
  std::uint32_t cycle(std::string_view request, std::span<const ChunkHash> chain) {
    start_lookup(request, chain);
    reap();
    const std::uint32_t hit = result(request).value_or(kNone);
    end(request);
    return hit;
  }
  /// Chunks that L1 alone would have served.
  std::uint64_t hits_in_l1(std::span<const ChunkHash> chain) {
    const std::uint64_t before = stats().totals.hit_l1;
    cycle("l1", chain);
    return stats().totals.hit_l1 - before;
  }
  /// Loads of a second lookup, after others have taken all the cold room.
  std::size_t loads_again(ScriptedTier& tier, std::span<const ChunkHash> chain) {
    const std::size_t before = tier.keys_of(Op::kGet).size();
    EXPECT_EQ(cycle("again", chain), chain.size());
    return tier.keys_of(Op::kGet).size() - before;
  }
};

// ---- E30.

TEST_F(EngineStoreTest, DefaultPromotionKeepsNothing) {
  capacity_cells = 16;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 4));
  store(chain_of(2, 12));
  cycle("r", chain_of(1, 4));

  store(chain_of(3, 4));  // Takes the cold ones, not those of prompt 2.

  EXPECT_EQ(look_up("s", chain_of(2, 12)), 12U);
  end("s");
  EXPECT_EQ(loads_again(tier, chain_of(1, 4)), 4U);
}

TEST_F(EngineStoreTest, RetainKeepsWhatWasLoaded) {
  capacity_cells = 16;
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 4));
  store(chain_of(2, 12));
  cycle("r", chain_of(1, 4));

  store(chain_of(3, 4));

  EXPECT_EQ(loads_again(tier, chain_of(1, 4)), 0U);
  EXPECT_EQ(stats().totals.cells_promoted, 4U);
}

TEST_F(EngineStoreTest, SecondHitKeepsWhatWasLoadedBefore) {
  capacity_cells = 16;
  options.promote = Promote::kSecondHit;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 4));
  cycle("r", chain_of(1, 4));
  EXPECT_EQ(stats().totals.cells_promoted, 0U);
  store(chain_of(2, 16));
  EXPECT_EQ(loads_again(tier, chain_of(1, 4)), 4U);
  EXPECT_EQ(stats().totals.cells_promoted, 4U);

  store(chain_of(3, 12));

  EXPECT_EQ(loads_again(tier, chain_of(1, 4)), 0U);
}

TEST_F(EngineStoreTest, OfWhatIsNotKeptTailsLeaveBeforeHeads) {
  capacity_cells = 16;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 6));
  store(chain_of(2, 10));
  cycle("r", chain_of(1, 6));

  store(chain_of(3, 4));

  EXPECT_EQ(hits_in_l1(chain_of(1, 6)), 2U);
}

TEST_F(EngineStoreTest, OfWhatIsKeptTailsLeaveBeforeHeads) {
  capacity_cells = 16;
  options.promote = Promote::kRetain;
  options.batch_bytes_max = kGrain;  // Each chunk arrives by itself, heads first.
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 6));
  cycle("r", chain_of(1, 6));

  store(chain_of(3, 14));

  EXPECT_EQ(hits_in_l1(chain_of(1, 6)), 2U);
}

TEST_F(EngineStoreTest, ALoadIsOneUse) {
  // ARC keeps a column that was used twice before one that was used once and later.
  capacity_cells = 16;
  options.policy = "arc";
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 4));
  cycle("r", chain_of(1, 4));
  store(chain_of(2, 8));

  store(chain_of(3, 6));

  EXPECT_EQ(hits_in_l1(chain_of(1, 4)), 2U);
}

TEST_F(EngineStoreTest, NothingBehindAHoleIsKept) {
  capacity_cells = 16;
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  tier.failing.insert(key_of(chain[2]));

  EXPECT_EQ(cycle("r", chain), 2U);

  EXPECT_EQ(stats().totals.cells_promoted, 2U);
  store(chain_of(2, 14));
  put(tier, chain);
  tier.failing.clear();
  EXPECT_EQ(loads_again(tier, chain), 4U);
}

TEST_F(EngineStoreTest, AMemorySourceIsNotPromoted) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier({.store = false});
  tier.locality = Locality::kMemory;
  add_model();
  put(tier, chain_of(1, 4));

  EXPECT_EQ(cycle("r", chain_of(1, 4)), 4U);

  EXPECT_EQ(stats().totals.cells_promoted, 0U);
}

TEST_F(EngineStoreTest, NothingIsKeptOfLoadsThatRanDuringAClear) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier({.store = false});
  tier.holds = true;
  add_model();
  put(tier, chain_of(1, 4));
  start_lookup("r", chain_of(1, 4));
  engine().clear({});
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(stats().totals.cells_promoted, 0U);
}

TEST_F(EngineStoreTest, WithNoopWhatIsNotKeptIsFreedAtOnce) {
  options.policy = "noop";
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  put(tier, chain_of(1, 4));
  start_lookup("r", chain_of(1, 4));
  reap();
  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(locked_cells(), 4U);

  end("r");

  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineStoreTest, AStoreIntoALoadedColumnKeepsIt) {
  capacity_cells = 8;
  ScriptedTier& tier = add_tier({.store = false});
  add_model(2);
  const auto chain = chain_of(1, 1);
  tier.sizes[key_of(chain[0], 0)] = kGrain;
  tier.sizes[key_of(chain[0], 1)] = kGrain;
  cycle("r", chain);
  engine().clear({});
  store(chain);
  store(chain_of(2, 3));

  EXPECT_EQ(look_up("s", chain), 1U);
}

// ---- E32.

TEST_F(EngineStoreTest, FillStoresIntoTheTiersBeforeTheSource) {
  options.promote = Promote::kRetain;
  ScriptedTier& near = add_tier({.store = false, .fill = Fill::kAlways});
  ScriptedTier& far = add_tier({.store = false});
  far.locality = Locality::kRemote;
  add_model();
  const auto chain = chain_of(1, 4);
  put(far, chain);
  put(near, std::span{chain}.first(1));

  EXPECT_EQ(cycle("r", chain), 4U);
  reap();

  EXPECT_EQ(near.sizes.size(), 4U);
  EXPECT_EQ(near.keys_of(Op::kSet).size(), 3U);
  EXPECT_EQ(far.calls_of(Op::kSet), 0U);
}

TEST_F(EngineStoreTest, AFillThatFailsChangesNoHit) {
  options.promote = Promote::kRetain;
  ScriptedTier& near = add_tier({.store = false, .fill = Fill::kAlways});
  ScriptedTier& far = add_tier({.store = false});
  far.locality = Locality::kRemote;
  add_model();
  const auto chain = chain_of(1, 4);
  put(far, chain);
  for (const ChunkHash& chunk : chain) near.failing_stores.insert(key_of(chunk));

  EXPECT_EQ(cycle("r", chain), 4U);
  for (int second = 0; second < 4; ++second) advance_all(kSecond);

  EXPECT_EQ(stats().totals.l2_store_failed, 4U);
  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(loads_again(far, chain), 0U);
}

// ---- E33.

TEST_F(EngineStoreTest, WhatIsCommittedIsStoredHeadsFirst) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);

  store(chain);
  reap();

  const auto keys = tier.keys_of(Op::kSet);
  ASSERT_EQ(keys.size(), 6U);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(keys[i], key_of(chain[i]));
  EXPECT_EQ(tier.calls[0].urgency, Urgency::kStore);
  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(stats().totals.l2_store_done, 6U);
}

TEST_F(EngineStoreTest, EveryTierWithStoreGetsACopy) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier({.store = false});
  ScriptedTier& third = add_tier();
  add_model();

  store(chain_of(1, 3));
  reap();

  EXPECT_EQ(first.sizes.size(), 3U);
  EXPECT_EQ(second.sizes.size(), 0U);
  EXPECT_EQ(third.sizes.size(), 3U);
}

TEST_F(EngineStoreTest, StoresInFlightAreBoundedAndOnlyTheyArePinned) {
  capacity_cells = 16;
  ScriptedTier& tier = add_tier({.store_bytes_max = 4 * kGrain});
  tier.holds = true;
  add_model();
  store(chain_of(1, 12));
  ASSERT_EQ(tier.held.size(), 1U);
  EXPECT_EQ(tier.calls[0].keys.size(), 4U);

  EXPECT_EQ(store(chain_of(2, 12)), 12U);  // No worker waits for L2.

  EXPECT_EQ(stats().totals.l2_store_lost, 8U);
  tier.holds = false;
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(tier.sizes.size(), 16U);
}

TEST_F(EngineStoreTest, SmallStoresGatherWhileABatchIsInFlight) {
  options.batch_bytes_max = 6 * kGrain;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  for (std::uint64_t prompt = 1; prompt <= 3; ++prompt) store(chain_of(prompt, 2));
  EXPECT_EQ(tier.calls_of(Op::kSet), 1U);
  store(chain_of(4, 2));  // Now they fill a batch.
  EXPECT_EQ(tier.calls_of(Op::kSet), 2U);
  EXPECT_EQ(tier.calls[1].keys.size(), 6U);
  store(chain_of(5, 1));
  EXPECT_EQ(stats().wanted_bytes, 9 * kGrain);

  tier.finish_all();
  reap();
  tier.finish_all();
  reap();

  EXPECT_EQ(tier.sizes.size(), 9U);
  EXPECT_EQ(stats().wanted_bytes, 0U);
}

TEST_F(EngineStoreTest, EvictionPrefersWhatNobodyWants) {
  capacity_cells = 8;
  ScriptedTier& tier = add_tier({.store_bytes_max = kGrain});
  add_model();
  store(chain_of(1, 4));
  reap();
  tier.holds = true;
  // Wanted, and colder than the next one.
  store(chain_of(2, 2));
  look_up("r", chain_of(1, 4));
  end("r");
  store(chain_of(3, 2));

  store(chain_of(4, 3));

  EXPECT_EQ(stats().totals.l2_store_lost, 0U);
  EXPECT_EQ(look_up("s", chain_of(2, 2)), 2U);
}

TEST_F(EngineStoreTest, ThreeFailuresOfACellEndItsWants) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 3);
  tier.failing_stores.insert(key_of(chain[1]));

  store(chain);
  reap();
  for (int second = 0; second < 3; ++second) advance_all(kSecond);

  EXPECT_EQ(stats().totals.l2_store_failed, 1U);
  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 5U);
}

TEST_F(EngineStoreTest, ATierThatFailsAWholeBatchIsLeftAloneForAMoment) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 2);
  for (const ChunkHash& chunk : chain) tier.failing_stores.insert(key_of(chunk));
  store(chain);
  reap();
  EXPECT_EQ(tier.calls_of(Op::kSet), 1U);
  advance_all(kSecond);
  EXPECT_EQ(tier.calls_of(Op::kSet), 2U);

  tier.failing_stores.clear();
  advance_all(kSecond);

  EXPECT_EQ(tier.sizes.size(), 2U);
  EXPECT_EQ(stats().totals.l2_store_failed, 0U);
}

TEST_F(EngineStoreTest, AValueWithAnErrorOfItsOwnHoldsUpNoOther) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  store(chain_of(1, 1));
  tier.fail_all(ErrorCode::kInvalidArgument);
  tier.holds = false;
  reap();

  store(chain_of(2, 4));
  reap();

  EXPECT_EQ(tier.sizes.size(), 5U);
}

TEST_F(EngineStoreTest, ATierThatIsDownKeepsItsWantsAndCatchesUp) {
  ScriptedTier& tier = add_tier();
  tier.is_down = true;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  reap();
  EXPECT_EQ(stats().cells_wanted, 4U);
  EXPECT_EQ(tier.calls_of(Op::kSet), 1U);
  // More tries than a failure of the cell itself would get.
  for (std::size_t tries = 2; tries <= 4; ++tries) {
    advance_all(kSecond);
    EXPECT_EQ(tier.calls_of(Op::kSet), tries);
  }
  EXPECT_EQ(stats().cells_wanted, 4U);

  tier.is_down = false;
  store(chain_of(2, 1));
  advance_all(kSecond);

  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(tier.sizes.size(), 5U);
  const auto keys = tier.keys_of(Op::kSet);
  EXPECT_EQ(keys[keys.size() - 5], key_of(chain[0]));  // In the order of the commits.
}

TEST_F(EngineStoreTest, ARefusedStoreKeepsItsWants) {
  ScriptedTier& tier = add_tier();
  tier.refuses = ErrorCode::kResourceExhausted;
  add_model();
  store(chain_of(1, 4));
  EXPECT_EQ(stats().cells_wanted, 4U);
  tier.refuses = ErrorCode::kNone;

  advance_all(kSecond);

  EXPECT_EQ(tier.sizes.size(), 4U);
}

TEST_F(EngineStoreTest, AStoreDoesNotQueueBehindALoadThatIsRefused) {
  ScriptedTier& tier = add_tier({.store_bytes_max = 2 * kGrain});
  tier.holds = true;
  add_model();
  put(tier, chain_of(1, 1));
  tier.refuses = ErrorCode::kResourceExhausted;
  start_lookup("r", chain_of(1, 1));  // Its load waits for room in the connector.

  store(chain_of(2, 8));
  store(chain_of(3, 8));

  EXPECT_EQ(stats().l2_batches, 1U);
  tier.refuses = ErrorCode::kNone;
  advance(2 * kSecond);
  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 2U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 1U);
}

TEST_F(EngineStoreTest, AClearEndsTheWantsAndAStoreInFlightKeepsItsSlot) {
  ScriptedTier& tier = add_tier({.store_bytes_max = 2 * kGrain});
  tier.holds = true;
  add_model();
  store(chain_of(1, 4));

  engine().clear({});
  engine().check_invariants();

  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(stats().orphan_bytes, 2 * kGrain);
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().orphan_bytes, 0U);
  EXPECT_EQ(tier.calls_of(Op::kSet), 1U);
}

// ---- E34.

TEST_F(EngineStoreTest, MinHitsStoresOnlyWhatWasHitAgain) {
  ScriptedTier& tier = add_tier({.load = false, .min_hits = 2});
  add_model();
  store(chain_of(1, 3));
  store(chain_of(2, 3));
  cycle("a", chain_of(1, 3));
  EXPECT_EQ(tier.calls_of(Op::kSet), 0U);

  cycle("b", chain_of(1, 2));
  reap();

  EXPECT_EQ(tier.sizes.size(), 2U);
}

TEST_F(EngineStoreTest, BufferOnlyCellsLeaveL1WhenEveryTierHasAnswered) {
  options.policy = "noop";
  options.skip_l1 = true;
  capacity_cells = 8;
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  second.holds = true;
  second.has_probe = false;
  second.holds_loads_only = false;
  add_model();
  store(chain_of(1, 4));
  reap();
  EXPECT_EQ(first.sizes.size(), 4U);
  EXPECT_EQ(stats().resident_bytes, 4 * kGrain);

  second.finish_all();
  reap();

  EXPECT_EQ(stats().resident_bytes, 0U);
}

TEST_F(EngineStoreTest, BufferOnlyRanksMayStoreOneAfterTheOther) {
  options.policy = "noop";
  options.skip_l1 = true;
  ScriptedTier& tier = add_tier();
  add_model(2);
  const auto chain = chain_of(1, 3);
  const auto other = begin_write(1, chain, {0, 3});
  store_rank(0, chain, {0, 3});
  reap();
  EXPECT_TRUE(engine().end_write(*other, WriteEnd::kPublish));
  reap();

  EXPECT_EQ(tier.sizes.size(), 6U);
  EXPECT_EQ(stats().resident_bytes, 0U);
}

TEST_F(EngineStoreTest, ABufferOnlyColumnLeavesThoughARankOfItWasLoaded) {
  options.policy = "noop";
  options.skip_l1 = true;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model(2);
  const auto chain = chain_of(1, 1);
  store_rank(0, chain, {0, 1});
  tier.sizes[key_of(chain[0], 1)] = kGrain;
  start_lookup("r", chain);

  tier.finish_all();  // The store, and the load of the other rank.
  reap();
  EXPECT_EQ(result("r"), 1U);
  end("r");

  EXPECT_EQ(stats().resident_bytes, 0U);
}

TEST_F(EngineStoreTest, BufferOnlyL1TakesTenTimesItsSizeAndReadsItBack) {
  options.policy = "noop";
  options.skip_l1 = true;
  capacity_cells = 16;
  ScriptedTier& tier = add_tier();
  add_model();
  for (std::uint64_t prompt = 0; prompt < 20; ++prompt) {
    EXPECT_EQ(store(chain_of(prompt, 8)), 8U);
    reap();
  }
  EXPECT_EQ(tier.sizes.size(), 160U);

  for (std::uint64_t prompt = 0; prompt < 20; ++prompt) {
    EXPECT_EQ(cycle("r", chain_of(prompt, 8)), 8U);
  }
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineStoreTest, WithNoopAFullL1RefusesStoresUntilItDrains) {
  options.policy = "noop";
  options.skip_l1 = true;
  capacity_cells = 8;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  EXPECT_EQ(store(chain_of(1, 8)), 8U);
  EXPECT_EQ(store(chain_of(2, 4)), 0U);
  tier.finish_all();
  reap();

  EXPECT_EQ(store(chain_of(2, 4)), 4U);
}

// ---- Drain.

TEST_F(EngineStoreTest, DrainWaitsForWhatIsWanted) {
  ScriptedTier& tier = add_tier({.store_bytes_max = 2 * kGrain});
  tier.holds = true;
  add_model();
  store(chain_of(1, 6));

  EXPECT_FALSE(engine().drain(kNever));
  tier.holds = false;
  tier.finish_all();
  reap();

  EXPECT_TRUE(engine().drain(kNever));
  EXPECT_EQ(tier.sizes.size(), 6U);
}

TEST_F(EngineStoreTest, DrainWaitsForATierThatFailedOnce) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  store(chain_of(1, 2));
  tier.fail_all(ErrorCode::kIo);
  tier.holds = false;
  reap();

  EXPECT_FALSE(engine().drain(now_ns + 60 * kSecond));
  advance_all(kSecond);

  EXPECT_TRUE(engine().drain(now_ns + 60 * kSecond));
  EXPECT_EQ(tier.sizes.size(), 2U);
}

TEST_F(EngineStoreTest, DrainGivesUpAtItsDeadline) {
  ScriptedTier& tier = add_tier({.store_bytes_max = 2 * kGrain});
  tier.holds = true;
  add_model();
  store(chain_of(1, 6));
  EXPECT_FALSE(engine().drain(now_ns + kSecond));

  advance(kSecond);
  EXPECT_FALSE(engine().drain(now_ns));
  reap();

  EXPECT_TRUE(engine().drain(now_ns));
}

TEST_F(EngineStoreTest, NothingIsSubmittedAfterTheDeadlineOfADrain) {
  ScriptedTier& tier = add_tier({.store_bytes_max = kGrain});
  tier.holds = true;
  add_model();
  store(chain_of(1, 4));
  EXPECT_FALSE(engine().drain(now_ns));
  reap();

  advance_all(2 * kSecond);  // The tier would be tried again.

  EXPECT_TRUE(engine().drain(now_ns));
  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 1U);
}

TEST_F(EngineStoreTest, AWantedCellStaysWhereTheDriverHasPromisedIt) {
  options.keeps_wanted = true;
  capacity_cells = 4;
  ScriptedTier& tier = add_tier();
  tier.is_down = true;
  add_model();
  store(chain_of(1, 4));
  reap();

  EXPECT_FALSE(engine().begin_write(write_spec(0, chain_of(2, 1), {0, 1}), slots));
  engine().check_invariants();
  tier.is_down = false;
  advance_all(kSecond);

  store(chain_of(2, 4));
  EXPECT_EQ(stats().totals.l2_store_lost, 0U);
  EXPECT_EQ(stats().totals.cells_evicted, 4U);
}

// ---- E34: what a salt may hold in a tier.

TEST_F(EngineStoreTest, ASaltAboveItsLimitInATierIsNotStoredThere) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model();
  const SpaceId other = engine().space(layout_, SaltId{1});
  engine().set_quota(SaltId{0}, {.tier_limit_bytes = 5 * kGrain});
  engine().begin_count(1);
  engine().end_count(1, std::array{SaltBytes{SaltId{0}, 3 * kGrain}});  // From before.

  store(chain_of(1, 8));
  store(chain_of(2, 8), other);
  reap();

  EXPECT_EQ(first.sizes.size(), 5U + 8U);
  EXPECT_EQ(second.sizes.size(), 2U + 8U);
  EXPECT_EQ(engine().account(0, SaltId{0}), 5 * kGrain);
  EXPECT_EQ(engine().account(1, SaltId{0}), 5 * kGrain);
  EXPECT_EQ(stats().totals.l2_store_over_quota, 3U + 6U);
  EXPECT_EQ(stats().cells_wanted, 0U);
  EXPECT_EQ(look_up("r", chain_of(1, 8)), 8U);  // L1 has them.
}

TEST_F(EngineStoreTest, WhatWasNotWrittenIsNotOnTheAccount) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  engine().set_quota(SaltId{0}, {.tier_limit_bytes = 8 * kGrain});
  const auto chain = chain_of(1, 4);
  tier.sizes[key_of(chain[0])] = kGrain;  // Another's.
  tier.failing_stores.insert(key_of(chain[1]));
  store(chain);
  EXPECT_EQ(engine().account(0, SaltId{0}), 4 * kGrain);

  engine().clear({});  // Their columns are gone when the answers come.
  tier.finish_all();
  reap();

  EXPECT_EQ(engine().account(0, SaltId{0}), 2 * kGrain);
}

TEST_F(EngineStoreTest, AnAccountThatTheDriverLowersLetsStoresGoOn) {
  ScriptedTier& tier = add_tier();
  add_model();
  engine().set_quota(SaltId{0}, {.tier_limit_bytes = 2 * kGrain});
  store(chain_of(1, 3));
  reap();
  ASSERT_EQ(tier.sizes.size(), 2U);

  engine().begin_count(0);
  engine().end_count(0, std::array{SaltBytes{SaltId{0}, 0}});  // The connector has evicted them.
  store(chain_of(2, 2));
  reap();

  EXPECT_EQ(tier.sizes.size(), 4U);
}

/// Whether a scan saw it or not, everything in flight when the count began is on the account.
TEST_F(EngineStoreTest, ACountNeverMissesWhatIsStoredMeanwhile) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  tier.failing_stores.insert(key_of(chain_of(2, 1)[0]));
  store(chain_of(1, 4));  // In flight when it begins.
  engine().begin_count(0);
  tier.finish_all();
  reap();
  store(chain_of(2, 3));  // Begun and ended during it; one fails and is in flight at the end.
  tier.finish_all();
  reap();
  EXPECT_EQ(engine().account(0, SaltId{0}), (4 + 2 + 1) * kGrain);  // It is tried again.

  // The scan found ten others, and none of these.
  engine().end_count(0, std::array{SaltBytes{SaltId{0}, 10 * kGrain}});

  EXPECT_EQ(engine().account(0, SaltId{0}), (10 + 4 + 2 + 1) * kGrain);
  for (int tries = 0; tries < 3; ++tries) {
    tier.finish_all();
    reap();
    advance(options.tier_retry_ns);
  }
  EXPECT_EQ(engine().account(0, SaltId{0}), (10 + 4 + 2) * kGrain);
  engine().begin_count(0);
  engine().end_count(0, std::array{SaltBytes{SaltId{0}, 6 * kGrain}});
  EXPECT_EQ(engine().account(0, SaltId{0}), 6 * kGrain);
}

}  // namespace
}  // namespace larder::cache
