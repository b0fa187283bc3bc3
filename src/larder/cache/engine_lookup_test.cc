// Lookups over L1 and tiers: E11, E23 to E29.
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
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);

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
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);

  release("r", {0, 3});
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(locked_cells(), 1U);
}

TEST_F(EngineLookupTest, AnEndDuringTheLookupCancelsItsLoads) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);

  end("r");
  reap();

  EXPECT_EQ(tier.cancels, 1);
  EXPECT_EQ(stats().lookups_running, 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineLookupTest, ALoadThatAnotherHasJoinedIsNotCancelled) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("a", chain);
  start_lookup("b", chain);

  end("a");
  EXPECT_EQ(tier.cancels, 0);
  tier.finish_all();
  reap();

  EXPECT_EQ(result("b"), 4U);
  EXPECT_EQ(locked_cells(), 4U);
}

// ---- E24, E25.

TEST_F(EngineLookupTest, SixteenLookupsThatNeedAThirdOfL1AllHitInFullInTurn) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  std::vector<std::string> requests;
  for (std::uint64_t i = 0; i < 16; ++i) {
    requests.push_back("r" + std::to_string(i));
    const auto chain = chain_of(100 + i, 6);
    put(tier, chain);
    start_lookup(requests.back(), chain);
  }
  EXPECT_EQ(stats().lookups_waiting, 14U);

  for (const std::string& request : requests) {
    tier.finish_all();
    reap();
    ASSERT_EQ(result(request), 6U) << request;
    end(request);
  }
  EXPECT_EQ(stats().totals.lookups_trimmed, 0U);
}

TEST_F(EngineLookupTest, APlanAboveTheLoadShareIsCutAtOnce) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 15);
  put(tier, chain);

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 10U);
  EXPECT_EQ(stats().totals.lookups_trimmed, 1U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kTrimmed)], 5U);
}

TEST_F(EngineLookupTest, AWaitingLookupHoldsNothing) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier({.store = false});
  tier.holds = true;
  add_model();
  const auto in_l1 = chain_of(3, 8);
  store(std::span{in_l1}.first(2));
  for (std::uint64_t i = 1; i <= 2; ++i) {
    put(tier, chain_of(i, 8));
    start_lookup("r" + std::to_string(i), chain_of(i, 8));
  }
  put(tier, in_l1);
  start_lookup("r3", in_l1);

  EXPECT_EQ(stats().lookups_waiting, 1U);
  EXPECT_EQ(locked_cells(), 0U);
  EXPECT_EQ(stats().loading_bytes, 16 * kGrain);
}

TEST_F(EngineLookupTest, ASmallerPlanMayPassTheHeadForAWhile) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  for (std::uint64_t i = 1; i <= 4; ++i) put(tier, chain_of(i, i <= 2 ? 9 : 2));
  start_lookup("large", chain_of(1, 9));
  start_lookup("head", chain_of(2, 9));
  start_lookup("small", chain_of(3, 2));
  EXPECT_EQ(stats().lookups_waiting, 1U);

  advance_all(500'000'000);
  start_lookup("late", chain_of(4, 2));

  EXPECT_EQ(stats().lookups_waiting, 2U);
}

TEST_F(EngineLookupTest, TheRoomThatTheHeadFreesIsKeptForIt) {
  capacity_cells = 40;
  options.evict_cells_max = 4;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  store(chain_of(1, 40));
  put(tier, chain_of(2, 12));
  engine().turn(now_ns);
  start_lookup("head", chain_of(2, 12));
  EXPECT_EQ(stats().lookups_waiting, 1U);
  EXPECT_EQ(stats().free_bytes, 4 * kGrain);

  EXPECT_EQ(store(chain_of(3, 2)), 2U);
  EXPECT_EQ(stats().free_bytes, 4 * kGrain);  // Its room came from elsewhere.
  for (int i = 0; i < 4; ++i) engine().turn(now_ns);
  reap();

  EXPECT_EQ(result("head"), 12U);
}

TEST_F(EngineLookupTest, AnEvictionThatTakesSeveralTurnsAsksForThem) {
  capacity_cells = 40;
  options.evict_cells_max = 4;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  store(chain_of(1, 40));
  put(tier, chain_of(2, 12));
  start_lookup("head", chain_of(2, 12));

  int turns = 0;
  while (engine().turn(now_ns) == now_ns) ++turns;

  EXPECT_GE(turns, 1);
  reap();
  EXPECT_EQ(result("head"), 12U);
}

TEST_F(EngineLookupTest, AWaitingLookupTakesWhatIsThereAtItsDeadline) {
  capacity_cells = 20;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  const auto chain = chain_of(3, 8);
  store(std::span{chain}.first(2));
  put(tier, chain);
  put(tier, chain_of(1, 7));
  put(tier, chain_of(2, 7));
  start_lookup("a", chain_of(1, 7));
  start_lookup("b", chain_of(2, 7));
  reap();
  start_lookup("c", chain);
  EXPECT_EQ(stats().lookups_waiting, 1U);

  advance_all(30 * kSecond);

  EXPECT_EQ(result("c"), 2U);
  EXPECT_EQ(stats().totals.lookups_late, 1U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kLate)], 6U);
}

TEST_F(EngineLookupTest, AQuotaCutsWhatTheHeadCanGet) {
  ScriptedTier& tier = add_tier();
  add_model();
  engine().set_quota(SaltId{0}, {.limit_bytes = 3 * kGrain});
  const auto chain = chain_of(1, 8);
  put(tier, chain);

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 3U);
}

// ---- E26.

TEST_F(EngineLookupTest, LoadsAreBatchesInPrefixOrderWithinTheBound) {
  options.batch_bytes_max = 2 * kGrain;
  ScriptedTier& tier = add_tier({.load_bytes_max = 4 * kGrain});
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 7);
  put(tier, chain);

  start_lookup("r", chain);

  EXPECT_EQ(tier.held.size(), 2U);
  tier.finish(*tier.held.front());
  reap();
  EXPECT_EQ(tier.calls_of(Op::kGet), 3U);
  tier.holds = false;
  tier.finish_all();
  reap();
  EXPECT_EQ(result("r"), 7U);
  const auto keys = tier.keys_of(Op::kGet);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(keys[i], key_of(chain[i]));
  EXPECT_EQ(tier.calls[0].urgency, Urgency::kDemand);
}

TEST_F(EngineLookupTest, ARefusedLoadIsTriedAgain) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 3);
  put(tier, chain);
  tier.refuses = ErrorCode::kResourceExhausted;
  start_lookup("r", chain);
  reap();
  EXPECT_EQ(result("r"), std::nullopt);
  tier.refuses = ErrorCode::kNone;

  advance_all(kSecond);

  EXPECT_EQ(result("r"), 3U);
}

TEST_F(EngineLookupTest, AWarmUpLoadsWithItsOwnUrgencyAndLocksNothing) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);

  engine().lookup({1, "w"}, {.space = space_, .chunks = chain, .lock = false});
  reap();

  EXPECT_EQ(result("w"), 4U);
  EXPECT_EQ(locked_cells(), 0U);
  EXPECT_EQ(stats().resident_bytes, 4 * kGrain);
  EXPECT_EQ(tier.calls[0].urgency, Urgency::kPrefetch);
}

// ---- E27.

TEST_F(EngineLookupTest, AFailedCellIsLoadedFromTheNextTierThatHasIt) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model();
  const auto chain = chain_of(1, 10);
  put(first, chain);
  put(second, chain);
  for (std::size_t i = 0; i < 10; i += 2) first.failing.insert(key_of(chain[i]));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 10U);
  EXPECT_EQ(second.keys_of(Op::kGet).size(), 5U);
  EXPECT_EQ(stats().totals.cells_load_failed, 5U);
}

TEST_F(EngineLookupTest, TheHitEndsBeforeACellThatNoTierCanLoad) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  tier.failing.insert(key_of(chain[3]));

  start_lookup("r", chain);
  reap();

  EXPECT_EQ(result("r"), 3U);
  EXPECT_EQ(locked_cells(), 3U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kFailed)], 3U);
}

TEST_F(EngineLookupTest, ATierThatIsDownIsAMissWithItsReason) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  tier.is_down = true;

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kDown)], 6U);
}

// ---- E28.

TEST_F(EngineLookupTest, AtTheDeadlineTheAnswerIsThePrefixThatIsThere) {
  options.batch_bytes_max = 2 * kGrain;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  tier.ignores_cancel = true;
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  start_lookup("r", chain);
  tier.finish(*tier.held.front());
  reap();

  now_ns += 30 * kSecond;
  engine().turn(now_ns);
  engine().check_invariants();

  EXPECT_EQ(result("r"), 2U);
  EXPECT_EQ(locked_cells(), 2U);
  EXPECT_EQ(stats().loading_bytes, 4 * kGrain);  // Until the tier gives them back.
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().loading_bytes, 0U);
}

TEST_F(EngineLookupTest, ATierThatNeverAnswersLeavesNoLockAndNoSlot) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  tier.ignores_cancel = true;
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  start_lookup("r", chain);
  now_ns += 30 * kSecond;
  engine().turn(now_ns);
  EXPECT_EQ(result("r"), 0U);
  end("r");

  tier.fail_all(ErrorCode::kDeadlineExceeded);
  reap();

  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
  EXPECT_EQ(stats().columns, 0U);
}

TEST_F(EngineLookupTest, NobodyJoinsALoadThatIsLate) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  tier.ignores_cancel = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("a", chain);
  now_ns += 30 * kSecond;
  engine().turn(now_ns);

  start_lookup("b", chain);
  EXPECT_EQ(tier.calls_of(Op::kGet), 2U);
  EXPECT_EQ(stats().orphan_bytes, 2 * kGrain);
  tier.finish_all();
  reap();

  EXPECT_EQ(result("b"), 2U);
  EXPECT_EQ(stats().orphan_bytes, 0U);
}

TEST_F(EngineLookupTest, AJoinerWithMoreTimeLoadsAgainOnce) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("a", chain);
  now_ns += 20 * kSecond;
  engine().turn(now_ns);
  start_lookup("b", chain);
  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);

  advance_all(10 * kSecond);
  EXPECT_EQ(result("a"), 0U);
  EXPECT_EQ(tier.calls_of(Op::kGet), 2U);
  tier.finish_all();
  reap();

  EXPECT_EQ(result("b"), 2U);
}

TEST_F(EngineLookupTest, ADeadlineDuringTheQuestionAnswersWhatL1Has) {
  ScriptedTier& tier = add_tier({.store = false});
  tier.has_probe = false;
  tier.holds = true;
  tier.ignores_cancel = true;
  add_model();
  const auto chain = chain_of(1, 6);
  store(std::span{chain}.first(2));
  start_lookup("r", chain);

  advance(30 * kSecond);

  EXPECT_EQ(result("r"), 2U);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineLookupTest, ALookupMayNameItsOwnDeadline) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  engine().lookup({1, "r"},
                  {.space = space_, .chunks = chain, .deadline_ns = now_ns + 2 * kSecond});

  advance(2 * kSecond - 1);
  EXPECT_EQ(result("r"), std::nullopt);
  advance(1);

  EXPECT_EQ(result("r"), 0U);
}

// ---- E29.

TEST_F(EngineLookupTest, WaitersAreAnsweredWithTheResultOrAtTheirDeadline) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("r", chain);
  engine().wait_result(Ticket{1}, {1, "r"}, now_ns + kSecond);
  engine().wait_result(Ticket{2}, {1, "r"}, now_ns + 100 * kSecond);

  advance(kSecond);
  ASSERT_EQ(heard.results.size(), 1U);
  EXPECT_EQ(heard.results[0].ticket, Ticket{1});
  EXPECT_EQ(heard.results[0].hit, std::nullopt);
  tier.finish_all();
  reap();

  ASSERT_EQ(heard.results.size(), 2U);
  EXPECT_EQ(heard.results[1].hit, 2U);
}

TEST_F(EngineLookupTest, AnEndAnswersWhoWaits) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("r", chain);
  engine().wait_result(Ticket{1}, {1, "r"}, kNever);

  end("r");

  ASSERT_EQ(heard.results.size(), 1U);
  EXPECT_EQ(heard.results[0].hit, 0U);
}

TEST_F(EngineLookupTest, ASecondLookupOfTheIdCancelsTheFirst) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  put(tier, chain_of(1, 2));
  put(tier, chain_of(2, 3));
  start_lookup("r", chain_of(1, 2));
  start_lookup("r", chain_of(2, 3));

  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 3U);
  EXPECT_EQ(locked_cells(), 3U);
}

// ---- E36 during loads.

TEST_F(EngineLookupTest, AForcedClearDuringALoadShortensTheHit) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);

  engine().clear({.force = true});
  engine().check_invariants();

  EXPECT_EQ(result("r").value_or(99), 0U);
  EXPECT_EQ(stats().orphan_bytes, 4 * kGrain);
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

}  // namespace
}  // namespace larder::cache
