// Writes by workers: E4, E5, E13 to E17.
#include "larder/cache/engine_test_support.h"

namespace larder::cache {
namespace {

class EngineWriteTest : public EngineFixture {};

TEST_F(EngineWriteTest, NothingIsVisibleBeforeTheCommit) {
  add_model();
  const auto chain = chain_of(1, 4);
  const auto write = begin_write(0, chain, {0, 4});
  ASSERT_TRUE(write);
  EXPECT_EQ(slots.size(), 4U);
  EXPECT_EQ(look_up("before", chain), 0U);

  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("after", chain), 4U);
}

TEST_F(EngineWriteTest, ResidentCellsGetNoSlots) {
  add_model();
  const auto chain = chain_of(1, 6);
  store_rank(0, chain, {0, 2});
  store_rank(0, chain, {4, 5});

  const auto write = begin_write(0, chain, {0, 6});

  ASSERT_TRUE(write);
  ASSERT_EQ(slots.size(), 3U);
  EXPECT_EQ(slots[0].chunk, 2U);
  EXPECT_EQ(slots[1].chunk, 3U);
  EXPECT_EQ(slots[2].chunk, 5U);
  engine().end_write(*write, WriteEnd::kDiscard);
  EXPECT_FALSE(begin_write(0, std::span{chain}.first(2), {0, 2}));
}

TEST_F(EngineWriteTest, ADiscardedWriteLeavesNothing) {
  add_model();
  const auto chain = chain_of(1, 4);
  const auto write = begin_write(0, chain, {0, 4});

  EXPECT_FALSE(engine().end_write(*write, WriteEnd::kDiscard));

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
  EXPECT_EQ(stats().columns, 0U);
}

TEST_F(EngineWriteTest, EachColumnThatBecomesCompleteIsToldOnce) {
  add_model(2);
  const auto chain = chain_of(1, 2);
  store_rank(0, chain, {0, 2});
  EXPECT_TRUE(heard.events.empty());
  store_rank(1, chain, {0, 2});

  ASSERT_EQ(heard.events.size(), 2U);
  EXPECT_EQ(heard.events[0].event, ColumnEvent::kStored);
  EXPECT_EQ(heard.events[0].chunk, chain[1]);
  EXPECT_EQ(heard.events[1].chunk, chain[0]);
}

// ---- E4.

TEST_F(EngineWriteTest, ACellOfAnotherLayoutIsAMissAndMakesWay) {
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  engine().drop_owner(owner_, OwnerEnd::kDead);
  engine().drop_layout(layout_);
  LayoutSpec other = layout_spec();
  other.groups[0].cell_bytes = 2 * kGrain;
  layout_ = *engine().add_layout(other);
  owner_ = engine().add_owner(layout_);

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().totals.missed[static_cast<std::size_t>(Miss::kOtherLayout)], 2U);
  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 2})));
  EXPECT_EQ(store(chain), 2U);

  EXPECT_EQ(look_up("s", chain), 2U);
  EXPECT_EQ(stats().resident_bytes, 4 * kGrain);
}

TEST_F(EngineWriteTest, ACommitUnderAReplacedLayoutIsRefused) {
  add_model();
  const auto chain = chain_of(1, 2);
  const auto write = begin_write(0, chain, {0, 2});
  engine().drop_layout(layout_);
  LayoutSpec other = layout_spec();
  other.groups[0].cell_bytes = 2 * kGrain;
  layout_ = *engine().add_layout(other);

  EXPECT_FALSE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

// ---- E5.

TEST_F(EngineWriteTest, ASecondWriterGetsNoSlotForTheChunk) {
  add_model();
  const auto chain = chain_of(1, 6);
  const OwnerId first = owner_;
  const auto one = begin_write(0, chain, {0, 4});
  owner_ = engine().add_owner(layout_);

  const auto two = begin_write(0, chain, {0, 6});

  ASSERT_TRUE(two);
  ASSERT_EQ(slots.size(), 2U);
  EXPECT_EQ(slots[0].chunk, 4U);
  EXPECT_TRUE(engine().end_write(*one, WriteEnd::kPublish));
  EXPECT_TRUE(engine().end_write(*two, WriteEnd::kPublish));
  EXPECT_EQ(look_up("r", chain), 6U);
  owner_ = first;
}

// ---- E13.

TEST_F(EngineWriteTest, AskingAgainForAnOpenRangeGivesNoSlots) {
  add_model();
  const auto chain = chain_of(1, 4);
  const auto write = begin_write(0, chain, {0, 4});
  ASSERT_TRUE(write);

  EXPECT_FALSE(begin_write(0, chain, {0, 4}));
  EXPECT_EQ(engine().open_write(write_spec(0, chain, {0, 4})), write);
  EXPECT_FALSE(engine().open_write(write_spec(0, chain, {0, 3})));
  EXPECT_FALSE(engine().open_write(write_spec(0, chain, {1, 4})));
}

TEST_F(EngineWriteTest, AfterTheTimeOutItsOwnerMayAskAgain) {
  add_model();
  const auto chain = chain_of(1, 2);
  const auto first = begin_write(0, chain, {0, 2});
  advance(options.write_ttl_ns + kSecond);

  const auto second = begin_write(0, chain, {0, 2});
  ASSERT_TRUE(second);
  EXPECT_EQ(slots.size(), 2U);
  EXPECT_FALSE(begin_write(0, chain, {0, 2}));
  EXPECT_EQ(engine().open_write(write_spec(0, chain, {0, 2})), second);
  EXPECT_TRUE(engine().end_write(*second, WriteEnd::kPublish));
  // The first was given up: it is never published, whichever commit comes.
  EXPECT_EQ(engine().open_write(write_spec(0, chain, {0, 2})), first);
  EXPECT_FALSE(engine().end_write(*first, WriteEnd::kPublish));
  EXPECT_EQ(look_up("r", chain), 2U);
  EXPECT_EQ(stats().quarantine_bytes, 0U);
}

TEST_F(EngineWriteTest, ALongRangeGetsTheLeadingRunThatFits) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 9);

  const auto write = begin_write(0, chain, {0, 9});

  ASSERT_TRUE(write);
  EXPECT_EQ(slots.size(), 8U);
  EXPECT_EQ(slots.back().chunk, 7U);
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  EXPECT_EQ(look_up("r", chain), 8U);
  EXPECT_EQ(stats().totals.writes_cut, 1U);
}

TEST_F(EngineWriteTest, NothingBehindTheFirstChunkThatFindsNoRoomGetsASlot) {
  capacity_cells = 4;
  LayoutSpec spec = layout_spec();
  spec.groups[0].cell_bytes = 0;
  layout_ = *engine().add_layout(spec);
  space_ = engine().space(layout_, SaltId{0});
  owner_ = engine().add_owner(layout_);
  const std::uint64_t bytes[] = {kGrain, 8 * kGrain, kGrain};
  const auto chain = chain_of(1, 3);
  WriteSpec write = write_spec(0, chain, {0, 3});
  write.bytes = bytes;

  const auto id = engine().begin_write(write, slots);

  ASSERT_TRUE(id);
  ASSERT_EQ(slots.size(), 1U);
  EXPECT_EQ(slots[0].chunk, 0U);
}

TEST_F(EngineWriteTest, AChunkGetsSlotsForAllItsGroupsOrNone) {
  capacity_cells = 5;
  add_model(1, {0, 0});
  const auto chain = chain_of(1, 4);

  const auto write = begin_write(0, chain, {0, 4});

  ASSERT_TRUE(write);
  EXPECT_EQ(slots.size(), 4U);
  EXPECT_EQ(stats().free_bytes, kGrain);
}

TEST_F(EngineWriteTest, NothingFitsWhereEverythingIsPinned) {
  capacity_cells = 4;
  options.lock_share = 1;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  look_up("r", chain);

  EXPECT_FALSE(begin_write(0, chain_of(2, 2), {0, 2}));

  EXPECT_EQ(stats().totals.writes_refused, 1U);
  EXPECT_EQ(stats().columns, 4U);
}

TEST_F(EngineWriteTest, ARangeThatIsAskedForWronglyIsRefused) {
  add_model(2);
  const auto chain = chain_of(1, 4);
  WriteSpec spec = write_spec(2, chain, {0, 4});
  EXPECT_FALSE(engine().begin_write(spec, slots));
  spec = write_spec(0, chain, {0, 4});
  spec.range.end = 5;
  EXPECT_FALSE(engine().begin_write(spec, slots));
  spec = write_spec(0, chain, {0, 4});
  spec.owner = OwnerId{99};
  EXPECT_FALSE(engine().begin_write(spec, slots));
}

// ---- E14, E15, E16.

TEST_F(EngineWriteTest, ACommitWithoutAReservationIsRefused) {
  add_model();
  const auto chain = chain_of(1, 4);
  const auto write = begin_write(0, chain, {0, 4});
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_FALSE(engine().end_write(*write, WriteEnd::kPublish));
  EXPECT_EQ(stats().totals.commits_refused, 1U);
}

TEST_F(EngineWriteTest, AfterTheTimeOutOthersMayWriteInOtherSlots) {
  add_model();
  const auto chain = chain_of(1, 2);
  const auto first = begin_write(0, chain, {0, 2});
  const auto old_slots = slots;
  advance(600 * kSecond);
  EXPECT_EQ(stats().quarantine_bytes, 2 * kGrain);
  owner_ = engine().add_owner(layout_);

  const auto second = begin_write(0, chain, {0, 2});

  ASSERT_TRUE(second);
  for (const CellSlot& slot : slots) {
    for (const CellSlot& old : old_slots) EXPECT_NE(slot.slot.offset, old.slot.offset);
  }
  EXPECT_TRUE(engine().end_write(*second, WriteEnd::kPublish));
  EXPECT_TRUE(engine().end_write(*first, WriteEnd::kPublish));  // Drops resident cells.
  EXPECT_EQ(stats().totals.cells_dropped, 2U);
  EXPECT_EQ(stats().quarantine_bytes, 0U);
}

TEST_F(EngineWriteTest, ALateCommitStillPublishesWhatIsAbsent) {
  add_model();
  const auto chain = chain_of(1, 3);
  const auto write = begin_write(0, chain, {0, 3});
  advance(601 * kSecond);
  EXPECT_EQ(stats().totals.writes_expired, 1U);

  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 3U);
  EXPECT_EQ(stats().totals.commits_late, 1U);
}

TEST_F(EngineWriteTest, AReservationOfAnUnregisteredOwnerIsNeverPublished) {
  add_model();
  const auto chain = chain_of(1, 3);
  const auto write = begin_write(0, chain, {0, 3});
  engine().drop_owner(owner_, OwnerEnd::kUnregistered);
  EXPECT_EQ(stats().quarantine_bytes, 3 * kGrain);

  EXPECT_FALSE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().quarantine_bytes, 0U);
}

TEST_F(EngineWriteTest, TheMemoryOfAnUnregisteredOwnerWaitsTenSeconds) {
  add_model();
  begin_write(0, chain_of(1, 3), {0, 3});
  store(chain_of(2, 2));
  begin_read(read_spec("r", 0, chain_of(2, 2), {0, 2}));
  engine().drop_owner(owner_, OwnerEnd::kUnregistered);

  advance(10 * kSecond - 1);
  EXPECT_EQ(stats().quarantine_bytes, 3 * kGrain);
  EXPECT_EQ(stats().reads_open, 1U);
  advance(1);

  EXPECT_EQ(stats().quarantine_bytes, 0U);
  EXPECT_EQ(stats().reads_open, 0U);
  EXPECT_EQ(stats().owners, 0U);
}

TEST_F(EngineWriteTest, TheMemoryOfAReapedOwnerWaitsOneMoreTimeToLive) {
  add_model();
  begin_write(0, chain_of(1, 3), {0, 3});
  engine().drop_owner(owner_, OwnerEnd::kReaped);

  advance(600 * kSecond - 1);
  EXPECT_EQ(stats().quarantine_bytes, 3 * kGrain);
  advance(1);

  EXPECT_EQ(stats().quarantine_bytes, 0U);
}

TEST_F(EngineWriteTest, TheMemoryOfADeadOwnerIsFreeAtOnce) {
  add_model();
  begin_write(0, chain_of(1, 3), {0, 3});
  engine().drop_owner(owner_, OwnerEnd::kUnregistered);

  engine().drop_owner(owner_, OwnerEnd::kDead);

  EXPECT_EQ(stats().quarantine_bytes, 0U);
  EXPECT_EQ(stats().owners, 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineWriteTest, AnOwnerWithMuchInQuarantineGetsNoMoreSlots) {
  capacity_cells = 20;
  add_model();
  begin_write(0, chain_of(1, 3), {0, 3});
  advance(600 * kSecond);

  EXPECT_FALSE(begin_write(0, chain_of(2, 1), {0, 1}));
  owner_ = engine().add_owner(layout_);
  EXPECT_TRUE(begin_write(0, chain_of(2, 1), {0, 1}));
}

TEST_F(EngineWriteTest, AnEndedOwnerGetsNothing) {
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  begin_write(0, chain_of(2, 1), {0, 1});
  engine().drop_owner(owner_, OwnerEnd::kUnregistered);

  EXPECT_FALSE(begin_write(0, chain_of(3, 1), {0, 1}));
  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 2})));
}

// ---- E17.

TEST_F(EngineWriteTest, SkippedCellsAreNotStored) {
  add_model(1, {0, 2});
  const auto chain = chain_of(1, 3);
  const std::uint64_t words[1] = {0b000110};  // Chunk 0's group 1, chunk 1's group 0.
  const SkipMask skip{words};
  WriteSpec spec = write_spec(0, chain, {0, 3});
  spec.skip = &skip;

  const auto write = engine().begin_write(spec, slots);

  ASSERT_TRUE(write);
  ASSERT_EQ(slots.size(), 4U);
  EXPECT_EQ(slots[0].group, 0U);
  EXPECT_EQ(slots[1].chunk, 1U);
  EXPECT_EQ(slots[1].group, 1U);
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  EXPECT_EQ(look_up("r", chain), 0U);  // The window of chunk 0 is not there.
}

TEST_F(EngineWriteTest, SizesMayBeOpen) {
  LayoutSpec spec = layout_spec();
  spec.groups[0].cell_bytes = 0;
  layout_ = *engine().add_layout(spec);
  space_ = engine().space(layout_, SaltId{0});
  owner_ = engine().add_owner(layout_);
  const auto chain = chain_of(1, 2);
  const std::uint64_t bytes[] = {100, 3 * kGrain};
  WriteSpec write = write_spec(0, chain, {0, 2});
  write.bytes = bytes;

  const auto id = engine().begin_write(write, slots);

  ASSERT_TRUE(id);
  EXPECT_EQ(slots[0].slot.bytes, 100U);
  EXPECT_EQ(slots[1].slot.bytes, 3 * kGrain);
  EXPECT_TRUE(engine().end_write(*id, WriteEnd::kPublish));
  EXPECT_EQ(stats().resident_bytes, 4 * kGrain);
}

}  // namespace
}  // namespace larder::cache
