// Waiting for room and loading: E24 to E29, and E36 during loads.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineLoadTest : public EngineTierFixture {};

// ---- E24, E25.

TEST_F(EngineLoadTest, SixteenLookupsThatNeedAThirdOfL1AllHitInFullInTurn) {
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

TEST_F(EngineLoadTest, APlanAboveTheLoadShareIsCutAtOnce) {
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

TEST_F(EngineLoadTest, AWaitingLookupHoldsNothing) {
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

TEST_F(EngineLoadTest, ASmallerPlanMayPassTheHeadForAWhile) {
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

TEST_F(EngineLoadTest, TheRoomThatTheHeadFreesIsKeptForIt) {
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
  EXPECT_EQ(stats().free_bytes, 4 * kGrain);  // Other columns gave it room.
  for (int i = 0; i < 4; ++i) engine().turn(now_ns);
  reap();

  EXPECT_EQ(result("head"), 12U);
}

TEST_F(EngineLoadTest, AnEvictionThatTakesSeveralTurnsAsksForThem) {
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

TEST_F(EngineLoadTest, AfterALookupThatWantedATurnHasGoneNoneIsWanted) {
  options.evict_cells_max = 4;
  capacity_cells = 32;
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  store(chain_of(1, 32));
  put(tier, chain_of(2, 12));
  advance(1);
  start_lookup("r", chain_of(2, 12));
  EXPECT_EQ(engine().turn(now_ns), now_ns);

  end("r");

  engine().turn(now_ns);
  EXPECT_GT(engine().turn(now_ns), now_ns);
}

TEST_F(EngineLoadTest, AWaitingLookupTakesWhatIsThereAtItsDeadline) {
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

TEST_F(EngineLoadTest, AQuotaCutsWhatTheHeadCanGet) {
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

TEST_F(EngineLoadTest, LoadsAreBatchesInPrefixOrderWithinTheBound) {
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

TEST_F(EngineLoadTest, ALoadThatWaitsForRoomIsDroppedWhenAWorkerHasStoredItsCells) {
  options.batch_bytes_max = kGrain;
  ScriptedTier& tier = add_tier({.store = false, .load_bytes_max = kGrain});
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("r", chain);
  ASSERT_EQ(tier.calls_of(Op::kGet), 1U);

  store_rank(0, chain, {1, 2});
  tier.finish_all();
  reap();

  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);
  EXPECT_EQ(result("r"), 2U);
}

TEST_F(EngineLoadTest, ARefusedLoadIsTriedAgain) {
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

TEST_F(EngineLoadTest, AWarmUpLoadsWithItsOwnUrgencyLocksNothingAndIsKept) {
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
  EXPECT_EQ(stats().totals.cells_promoted, 4U);
  EXPECT_EQ(stats().totals.lookups, 0U);
}

// ---- E27.

TEST_F(EngineLoadTest, AFailedCellIsLoadedFromTheNextTierThatHasIt) {
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

TEST_F(EngineLoadTest, TheHitEndsBeforeACellThatNoTierCanLoad) {
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

TEST_F(EngineLoadTest, ATierThatIsDownIsAMissWithItsReason) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  tier.is_down = true;

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kDown)], 6U);
}

// ---- E28.

TEST_F(EngineLoadTest, AtTheDeadlineTheAnswerIsThePrefixThatIsThere) {
  options.batch_bytes_max = 2 * kGrain;
  const auto chain = chain_of(1, 6);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  tier.ignores_cancel = true;
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

TEST_F(EngineLoadTest, ATierThatNeverAnswersLeavesNoLockAndNoSlot) {
  const auto chain = chain_of(1, 6);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  tier.ignores_cancel = true;
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

TEST_F(EngineLoadTest, NobodyJoinsALoadThatIsLate) {
  const auto chain = chain_of(1, 2);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  tier.ignores_cancel = true;
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

TEST_F(EngineLoadTest, AJoinerWithMoreTimeLoadsAgainOnce) {
  const auto chain = chain_of(1, 2);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
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

TEST_F(EngineLoadTest, ADeadlineDuringTheQuestionAnswersWhatL1Has) {
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

TEST_F(EngineLoadTest, ALookupMayNameItsOwnDeadline) {
  const auto chain = chain_of(1, 2);
  add_model_over_holding_tier(chain);
  engine().lookup({1, "r"},
                  {.space = space_, .chunks = chain, .deadline_ns = now_ns + 2 * kSecond});

  advance(2 * kSecond - 1);
  EXPECT_EQ(result("r"), std::nullopt);
  advance(1);

  EXPECT_EQ(result("r"), 0U);
}

// ---- E29.

TEST_F(EngineLoadTest, WaitersAreAnsweredWithTheResultOrAtTheirDeadline) {
  const auto chain = chain_of(1, 2);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
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

TEST_F(EngineLoadTest, AnEndAnswersWhoWaits) {
  const auto chain = chain_of(1, 2);
  add_model_over_holding_tier(chain);
  start_lookup("r", chain);
  engine().wait_result(Ticket{1}, {1, "r"}, kNever);

  end("r");

  ASSERT_EQ(heard.results.size(), 1U);
  EXPECT_EQ(heard.results[0].hit, 0U);
}

TEST_F(EngineLoadTest, ASecondLookupOfTheIdCancelsTheFirst) {
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

TEST_F(EngineLoadTest, AForcedClearDuringALoadShortensTheHit) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_lookup("r", chain);

  engine().clear({.force = true});
  engine().check_invariants();

  EXPECT_EQ(result("r").value_or(99), 0U);
  EXPECT_EQ(stats().orphan_bytes, 4 * kGrain);
  tier.finish_all();
  reap();
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

// ---- E4.

TEST_F(EngineLoadTest, ASizeThatTheTierDoesNotTellIsComparedByTheLoad) {
  ScriptedTier& tier = add_tier();
  tier.tells_sizes = false;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  tier.sizes[key_of(chain[2], 0)] = 2 * kGrain;
  for (const bool has_probe : {true, false}) {
    tier.has_probe = has_probe;
    start_lookup("r", chain);
    reap();
    EXPECT_EQ(result("r"), 2U);
    end("r");
    engine().clear({.force = true});
  }
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kOtherLayout)], 4U);
}

TEST_F(EngineLoadTest, ALookupWhoseLayoutWasReplacedHasNoHit) {
  ScriptedTier& tier = add_tier();
  tier.has_probe = false;
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);
  engine().drop_layout(layout_);
  LayoutSpec other = layout_spec(1, {0, 0});
  other.groups[0].cell_bytes = 2 * kGrain;
  layout_ = *engine().add_layout(other);
  owner_ = engine().add_owner(layout_);

  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 0U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kOtherLayout)], 4U);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 0U);
  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 4})));
}

}  // namespace
}  // namespace larder::cache
