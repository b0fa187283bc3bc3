// Sessions, locks and reads: E6 to E12.
#include "larder/cache/engine_test_support.h"

namespace larder::cache {
namespace {

class EngineSessionTest : public EngineFixture {};

// ---- Lookups in L1.

TEST_F(EngineSessionTest, ALookupHitsWhatWasCommitted) {
  add_model();
  const auto chain = chain_of(1, 8);
  store(std::span{chain}.first(5));

  EXPECT_EQ(look_up("r", chain), 5U);
  EXPECT_EQ(locked_cells(), 5U);
}

TEST_F(EngineSessionTest, AHoleEndsThePrefix) {
  add_model();
  const auto chain = chain_of(1, 8);
  store_rank(0, chain, {0, 3});
  store_rank(0, chain, {4, 8});

  EXPECT_EQ(look_up("r", chain), 3U);
}

TEST_F(EngineSessionTest, AllRanksMustHaveTheChunk) {
  add_model(4);
  const auto chain = chain_of(1, 4);
  for (std::uint32_t rank = 0; rank < 3; ++rank) store_rank(rank, chain, {0, 4});
  store_rank(3, chain, {0, 2});

  EXPECT_EQ(look_up("r", chain), 2U);
  EXPECT_EQ(locked_cells(), 8U);
}

TEST_F(EngineSessionTest, SpacesAreApart) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain, engine().space(layout_, SaltId{7}));

  EXPECT_EQ(look_up("r", chain), 0U);
}

TEST_F(EngineSessionTest, TheResultIsGivenOnceAndZeroForAnUnknownId) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);

  EXPECT_EQ(look_up("r", chain), 4U);
  EXPECT_EQ(engine().take_result({1, "r"}), 0U);
  EXPECT_EQ(engine().take_result({1, "unknown"}), 0U);
}

TEST_F(EngineSessionTest, WaitingForAKnownResultIsAnsweredAtOnce) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  start_lookup("r", chain);

  engine().wait_result(Ticket{5}, {1, "r"}, now_ns + kSecond);
  engine().wait_result(Ticket{6}, {1, "unknown"}, now_ns + kSecond);

  ASSERT_EQ(heard.results.size(), 2U);
  EXPECT_EQ(heard.results[0].ticket, Ticket{5});
  EXPECT_EQ(heard.results[0].hit, 4U);
  EXPECT_EQ(heard.results[1].hit, 0U);
}

TEST_F(EngineSessionTest, EveryAskedChunkIsAHitOrHasOneReason) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 8);
  store(std::span{chain}.first(4));
  look_up("r", chain);
  end("r");
  fill_with_others(8);
  look_up("r", chain);

  const EngineTotals totals = stats().totals;
  EXPECT_EQ(totals.asked, 16U);
  EXPECT_EQ(totals.hit_l1, 4U);
  EXPECT_EQ(totals.missed[static_cast<std::size_t>(Miss::kNeverStored)], 4U);
  EXPECT_EQ(totals.missed[static_cast<std::size_t>(Miss::kEvicted)], 8U);
}

TEST_F(EngineSessionTest, AWarmUpLocksNothing) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  LookupSpec spec{.space = space_, .chunks = chain, .lock = false};

  engine().lookup({1, "r"}, spec);

  EXPECT_EQ(engine().take_result({1, "r"}), 4U);
  EXPECT_EQ(locked_cells(), 0U);
}

// ---- E6.

TEST_F(EngineSessionTest, ARequestIdOfTwoConnectionsIsFoundByItsConnectionOnly) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain, 1, 1);
  look_up("r", std::span{chain}.first(2), 1, 2);

  release("r", {0, 4}, 3);
  EXPECT_EQ(locked_cells(), 4U);
  EXPECT_EQ(stats().totals.ambiguous_requests, 1U);
  release("r", {0, 4}, 1);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineSessionTest, ASchedulerDoesNotReachTheSessionOfAnotherOpenConnection) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  start_lookup("r", chain);

  EXPECT_EQ(engine().take_result({99, "r"}), 0U);
  release("r", {0, 4}, 99);
  end("r", 99);

  EXPECT_EQ(locked_cells(), 4U);
  EXPECT_EQ(engine().take_result({1, "r"}), 4U);
}

TEST_F(EngineSessionTest, ASchedulerThatReconnectsReachesItsSession) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  start_lookup("r", chain);
  engine().on_connection(1, ConnectionEvent::kClosed);

  EXPECT_EQ(engine().take_result({99, "r"}), 4U);
  release("r", {0, 4}, 99);

  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineSessionTest, SeparateReadsOfOneRangeEachHoldItsSlots) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  const ReadSpec spec{.owner = owner_,
                      .session = {1, "r"},
                      .space = space_,
                      .rank = 0,
                      .range = {0, 4},
                      .chunks = chain,
                      .is_separate = true};
  std::vector<CellSlot> out;
  const auto first = engine().begin_read(spec, out);
  const auto second = engine().begin_read(spec, out);
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  engine().end_read(*first);
  EXPECT_EQ(stats().reads_open, 1U);
  fill_with_others(64);
  EXPECT_EQ(stats().totals.reads_failed, 0U);
  EXPECT_TRUE(engine().begin_read(spec, out).has_value());  // They could not be evicted.
}

TEST_F(EngineSessionTest, ANewLookupOfTheSameIdEndsTheOldSession) {
  add_model();
  const auto chain = chain_of(1, 8);
  store(chain);
  look_up("r", chain);

  EXPECT_EQ(look_up("r", std::span{chain}.first(3)), 3U);

  EXPECT_EQ(locked_cells(), 3U);
  EXPECT_EQ(stats().sessions, 1U);
}

TEST_F(EngineSessionTest, ThreeSessionsOfOneRequestIdEndInAnyOrder) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  for (std::uint64_t connection = 1; connection <= 3; ++connection) {
    look_up("r", chain, 1, connection);
  }
  end("r", 2);
  end("r", 3);
  EXPECT_EQ(locked_cells(), 4U);
  end("r", 1);

  EXPECT_EQ(stats().sessions, 0U);
  EXPECT_EQ(locked_cells(), 0U);
}

// ---- E7.

TEST_F(EngineSessionTest, ASecondFreeIsANoOpAndCounted) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("a", chain);
  look_up("b", chain);

  release("a", {0, 4});
  release("a", {0, 4});

  EXPECT_EQ(stats().totals.second_releases, 1U);
  EXPECT_EQ(locked_cells(), 4U);  // The other request's.
}

TEST_F(EngineSessionTest, AReadGivesBackOneShareOfItsRankAndRangeOnce) {
  add_model(2);
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain, 2);
  EXPECT_EQ(locked_cells(), 8U);
  const ReadSpec of_first = read_spec("r", 0, chain, {0, 4});

  for (int i = 0; i < 3; ++i) engine().end_read(*begin_read(of_first));
  EXPECT_EQ(locked_cells(), 8U);
  EXPECT_EQ(stats().totals.second_releases, 2U);
  ReadSpec of_other = of_first;
  of_other.owner = engine().add_owner(layout_);
  engine().end_read(*begin_read(of_other));

  EXPECT_EQ(locked_cells(), 4U);  // Rank 1's.
}

TEST_F(EngineSessionTest, AFailedReadGivesBackItsShares) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(std::span{chain}.first(2));
  look_up("r", chain);

  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 4})));

  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineSessionTest, FreeGivesBackItsRangeOnly) {
  add_model();
  const auto chain = chain_of(1, 6);
  store(chain);
  look_up("r", chain, 3);

  release("r", {2, 4});

  EXPECT_EQ(locked_cells(), 4U);
}

TEST_F(EngineSessionTest, ReadersAreClampedAndZeroIsTheWorldSize) {
  add_model(2);
  const auto chain = chain_of(1, 1);
  store(chain);
  look_up("r", chain, 0);
  engine().end_read(*begin_read(read_spec("r", 0, chain, {0, 1})));
  EXPECT_EQ(locked_cells(), 2U);

  look_up("many", chain, 100'000);
  end("many");
  EXPECT_EQ(locked_cells(), 2U);
}

// ---- E8.

TEST_F(EngineSessionTest, AReadClaimsItsWholeRange) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);

  const auto read = begin_read(read_spec("none", 0, chain, {1, 4}));

  ASSERT_TRUE(read);
  ASSERT_EQ(slots.size(), 3U);
  EXPECT_EQ(slots[0].chunk, 0U);
  EXPECT_EQ(slots[2].chunk, 2U);
  EXPECT_EQ(slots[2].slot.bytes, kGrain);
  engine().end_read(*read);
}

TEST_F(EngineSessionTest, AReadIsAllOrNothing) {
  add_model();
  const auto chain = chain_of(1, 4);
  store_rank(0, chain, {0, 2});
  store_rank(0, chain, {3, 4});

  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 4})));
  EXPECT_TRUE(slots.empty());
  EXPECT_EQ(stats().totals.reads_failed, 1U);
}

TEST_F(EngineSessionTest, AWindowIsReadAtItsEndOnly) {
  add_model(1, {0, 2});
  const auto chain = chain_of(1, 5);
  store(chain);

  const auto read = begin_read(read_spec("r", 0, chain, {0, 5}));

  ASSERT_TRUE(read);
  EXPECT_EQ(slots.size(), 5U + 2U);
  engine().end_read(*read);
}

TEST_F(EngineSessionTest, AWindowNeedsNoCellsBeforeIt) {
  add_model(1, {0, 2});
  const auto chain = chain_of(1, 5);
  const std::uint64_t words[1] = {0b0000101010};  // Group 1 of the first three chunks.
  const SkipMask skip{words};
  WriteSpec write = write_spec(0, chain, {0, 5});
  write.skip = &skip;
  ASSERT_TRUE(engine().end_write(*engine().begin_write(write, slots), WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 5U);
  const auto read = begin_read(read_spec("r", 0, chain, {0, 5}));
  ASSERT_TRUE(read);
  engine().end_read(*read);
}

TEST_F(EngineSessionTest, ARepeatedReadGetsTheSameSlotsAndOneEndEndsIt) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  const auto first = begin_read(read_spec("r", 0, chain, {0, 4}));
  const auto before = slots;

  const auto second = begin_read(read_spec("r", 0, chain, {0, 4}));

  EXPECT_EQ(first, second);
  ASSERT_EQ(slots.size(), before.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    EXPECT_EQ(slots[i].slot.offset, before[i].slot.offset);
  }
  engine().end_read(*first);
  EXPECT_EQ(stats().reads_open, 0U);
}

TEST_F(EngineSessionTest, AReadNeedsNoLock) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);
  advance(400 * kSecond);
  EXPECT_EQ(locked_cells(), 0U);

  EXPECT_TRUE(begin_read(read_spec("r", 0, chain, {0, 4})));
}

TEST_F(EngineSessionTest, AReadThatIsAskedWronglyFails) {
  add_model(2);
  const auto chain = chain_of(1, 4);
  store(chain);
  ReadSpec spec = read_spec("r", 2, chain, {0, 4});
  EXPECT_FALSE(begin_read(spec));
  spec = read_spec("r", 0, chain, {0, 4});
  spec.range.end = 3;
  EXPECT_FALSE(begin_read(spec));
  spec = read_spec("r", 0, chain, {0, 4});
  spec.owner = OwnerId{12345};
  EXPECT_FALSE(begin_read(spec));
}

// ---- E9.

TEST_F(EngineSessionTest, LocksEndWhenTheConnectionIsSilent) {
  options.read_ttl_ns = 10 * kSecond;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);

  advance(9 * kSecond);
  engine().on_connection(1, ConnectionEvent::kHeard);
  advance(9 * kSecond);
  EXPECT_EQ(locked_cells(), 4U);
  advance(2 * kSecond);

  EXPECT_EQ(locked_cells(), 0U);
  EXPECT_EQ(stats().totals.locks_expired, 1U);
}

TEST_F(EngineSessionTest, ASessionEndsWhenItsRequestIsNotNamedAnyMore) {
  options.session_ttl_ns = 100 * kSecond;
  options.read_ttl_ns = 10'000 * kSecond;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);
  advance(60 * kSecond);
  release("r", {0, 1});
  advance(60 * kSecond);
  EXPECT_EQ(locked_cells(), 3U);

  advance(41 * kSecond);

  EXPECT_EQ(stats().sessions, 0U);
  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineSessionTest, SessionsEndFiveSecondsAfterTheirConnectionClosed) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("a", chain, 1, 1);
  look_up("b", chain, 1, 1);
  look_up("c", std::span{chain}.first(1), 1, 2);

  engine().on_connection(1, ConnectionEvent::kClosed);
  advance(5 * kSecond - 1);
  EXPECT_EQ(stats().sessions, 3U);
  advance(1);

  EXPECT_EQ(stats().sessions, 1U);
  EXPECT_EQ(locked_cells(), 1U);
}

TEST_F(EngineSessionTest, ClaimsDoNotEndWithTime) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);
  const auto read = begin_read(read_spec("r", 0, chain, {0, 4}));
  advance(10'000 * kSecond);
  fill_with_others(8);

  EXPECT_EQ(look_up("again", chain), 4U);
  engine().end_read(*read);
}

// ---- E10.

TEST_F(EngineSessionTest, TheLocksAreExactlyWhatTheHitNeeds) {
  add_model(2, {0, 2});
  const auto chain = chain_of(1, 5);
  store(chain);

  EXPECT_EQ(look_up("r", chain), 5U);

  EXPECT_EQ(locked_cells(), 2U * (5U + 2U));
}

TEST_F(EngineSessionTest, AWindowedModelHitsBehindAHole) {
  add_model(1, {2});
  const auto chain = chain_of(1, 6);
  store_rank(0, chain, {3, 6});

  EXPECT_EQ(look_up("r", chain), 6U);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineSessionTest, LockedColumnsStayUnderPressure) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);
  for (std::uint64_t prompt = 10; prompt < 20; ++prompt) store(chain_of(prompt, 8));

  EXPECT_TRUE(begin_read(read_spec("r", 0, chain, {0, 4})));
}

// ---- E12.

TEST_F(EngineSessionTest, LocksLeaveRoomForStores) {
  capacity_cells = 10;
  add_model();
  const auto first = chain_of(1, 5);
  const auto second = chain_of(2, 5);
  store(first);
  store(second);

  EXPECT_EQ(look_up("a", first), 5U);
  EXPECT_EQ(look_up("b", second), 3U);

  EXPECT_EQ(locked_cells(), 8U);
  EXPECT_EQ(stats().totals.lookups_trimmed, 1U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kTrimmed)], 2U);
  EXPECT_EQ(look_up("c", first), 5U);  // Locked already: nothing new.
}

TEST_F(EngineSessionTest, ATrimmedHitOfAWindowIsOneThatCanBeServed) {
  capacity_cells = 12;
  options.lock_share = 0.5;
  add_model(1, {0, 4});
  const auto chain = chain_of(1, 5);
  const auto other = chain_of(2, 1);
  store(other);
  store(chain);

  EXPECT_EQ(look_up("q", other), 1U);
  EXPECT_EQ(look_up("r", chain), 2U);
  EXPECT_EQ(locked_cells(), 6U);
}

TEST_F(EngineSessionTest, AHitThatIsAloneMayLockAllOfL1) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 8);
  store(chain);

  EXPECT_EQ(look_up("a", chain), 8U);
  EXPECT_EQ(look_up("b", chain), 8U);  // Locked already: nothing new.
  EXPECT_EQ(locked_cells(), 8U);
}

}  // namespace
}  // namespace larder::cache
