// Room, quotas, clear: E2, E18 to E22, E36.
#include <list>

#include "larder/base/random.h"
#include "larder/cache/engine_test_support.h"

namespace larder::cache {
namespace {

class EngineRoomTest : public EngineFixture {
 protected:
  SpaceId salt(std::uint32_t number) { return engine().space(layout_, SaltId{number}); }
  std::uint32_t resident_of(std::span<const ChunkHash> chain, SpaceId space) {
    const SpaceId before = std::exchange(space_, space);
    LookupSpec spec{.space = space, .chunks = chain, .lock = false};
    engine().lookup({77, "count"}, spec);
    const std::uint32_t hit = engine().take_result({77, "count"}).value_or(kNone);
    engine().end({77, "count"});
    space_ = before;
    return hit;
  }
};

// ---- E18, E19, E20.

TEST_F(EngineRoomTest, TailsLeaveBeforeHeads) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 6);
  store(chain);

  fill_with_others(4);

  EXPECT_EQ(look_up("r", chain), 4U);
}

TEST_F(EngineRoomTest, ACellThatNeverFitsEvictsNothing) {
  add_model();
  engine().set_quota(SaltId{1}, {.limit_bytes = 8 * kGrain});
  store(chain_of(1, 40));
  store(chain_of(2, 8), salt(1));
  LayoutSpec large{.model = "large", .world_size = 1, .groups = {{.cell_bytes = 65 * kGrain}}};
  const LayoutId beyond_l1 = *engine().add_layout(large);
  large = {.model = "less large", .world_size = 1, .groups = {{.cell_bytes = 9 * kGrain}}};
  const LayoutId beyond_quota = *engine().add_layout(large);

  owner_ = engine().add_owner(beyond_l1);
  EXPECT_FALSE(begin_write(0, chain_of(3, 1), {0, 1}, engine().space(beyond_l1, SaltId{0})));
  owner_ = engine().add_owner(beyond_quota);
  EXPECT_FALSE(begin_write(0, chain_of(3, 1), {0, 1}, engine().space(beyond_quota, SaltId{1})));

  EXPECT_EQ(stats().resident_bytes, 48 * kGrain);
  EXPECT_EQ(stats().totals.allocations_failed, 2U);
}

TEST_F(EngineRoomTest, ALookupUsesItsColumns) {
  capacity_cells = 8;
  add_model();
  const auto first = chain_of(1, 4);
  const auto second = chain_of(2, 4);
  store(first);
  store(second);
  look_up("r", first);
  end("r");

  fill_with_others(4);

  EXPECT_EQ(look_up("a", first), 4U);
  EXPECT_EQ(look_up("b", second), 0U);
}

TEST_F(EngineRoomTest, TheCellsOfAColumnGoTogether) {
  capacity_cells = 16;
  add_model(4);
  store(chain_of(1, 4));

  store_rank(0, chain_of(2, 1), {0, 1});

  EXPECT_EQ(stats().totals.columns_evicted, 1U);
  EXPECT_EQ(stats().totals.cells_evicted, 4U);
}

TEST_F(EngineRoomTest, APinOnOneCellProtectsItsColumn) {
  capacity_cells = 8;
  add_model(4);
  const auto chain = chain_of(1, 1);
  store(chain);
  const auto read = begin_read(read_spec("none", 2, chain, {0, 1}));
  ASSERT_TRUE(read);

  store(chain_of(2, 4));

  EXPECT_EQ(look_up("r", chain), 1U);
  engine().end_read(*read);
}

TEST_F(EngineRoomTest, AWriteEvictsAsMuchAsItStores) {
  capacity_cells = 600;
  options.evict_cells_max = 16;
  add_model();
  store(chain_of(1, 600));

  EXPECT_EQ(store(chain_of(2, 500)), 500U);
}

TEST_F(EngineRoomTest, AFullArenaTakesEveryStore) {
  capacity_cells = 64;
  add_model();
  Random random{4};
  for (std::uint64_t prompt = 1; prompt <= 100; ++prompt) {
    const auto count = static_cast<std::uint32_t>(1 + random.below(20));
    EXPECT_EQ(store(chain_of(prompt, count)), count);
  }
  EXPECT_GE(stats().resident_bytes, stats().capacity_bytes * 95 / 100);
}

TEST_F(EngineRoomTest, ScatteredRoomIsNotEnoughForALargeCell) {
  capacity_cells = 16;
  add_model();
  const auto small = chain_of(1, 16);
  store(small);
  // Every second small cell is pinned.
  for (std::uint32_t i = 0; i < 16; i += 2) {
    ASSERT_TRUE(begin_read(read_spec("none", 0, small, {i, i + 1})));
  }
  LayoutSpec large = layout_spec(1, {0}, "large");
  large.groups[0].cell_bytes = 2 * kGrain;
  layout_ = *engine().add_layout(large);
  space_ = engine().space(layout_, SaltId{0});
  owner_ = engine().add_owner(layout_);

  EXPECT_FALSE(begin_write(0, chain_of(2, 1), {0, 1}));

  EXPECT_EQ(stats().totals.writes_refused, 1U);
  EXPECT_EQ(stats().totals.failed_fragmentation, 1U);
}

TEST_F(EngineRoomTest, VictimsOfTheSameSizeGoFirst) {
  capacity_cells = 16;
  add_model();
  LayoutSpec large = layout_spec(1, {0}, "large");
  large.groups[0].cell_bytes = 4 * kGrain;
  const LayoutId small_layout = layout_;
  const SpaceId small_space = space_;
  const OwnerId small_owner = owner_;
  store(chain_of(1, 4));
  layout_ = *engine().add_layout(large);
  space_ = engine().space(layout_, SaltId{0});
  owner_ = engine().add_owner(layout_);
  store(chain_of(2, 3));

  EXPECT_EQ(store(chain_of(3, 1)), 1U);

  EXPECT_EQ(stats().totals.columns_evicted, 1U);
  layout_ = small_layout;
  space_ = small_space;
  owner_ = small_owner;
  EXPECT_EQ(look_up("r", chain_of(1, 4)), 4U);
}

/// The content of an exact LRU of equal blocks, used as E20 says: from the last chunk to the first.
class LruModel {
 public:
  explicit LruModel(std::size_t capacity) : capacity_(capacity) {}

  std::uint32_t look_up(std::uint64_t prompt, std::uint32_t count) {
    std::uint32_t hit = 0;
    while (hit < count && find({prompt, hit}) != order_.end()) ++hit;
    for (std::uint32_t chunk = hit; chunk-- > 0;) {
      order_.splice(order_.end(), order_, find({prompt, chunk}));
    }
    return hit;
  }
  void store(std::uint64_t prompt, std::uint32_t count) {
    std::vector<Block> absent;
    for (std::uint32_t chunk = 0; chunk < count; ++chunk) {
      if (find({prompt, chunk}) == order_.end()) absent.push_back({prompt, chunk});
    }
    // This request uses chunks behind the hit, too.
    for (std::uint32_t chunk = count; chunk-- > 0 && !absent.empty();) {
      const auto found = find({prompt, chunk});
      if (chunk > absent.front().second && found != order_.end()) {
        order_.splice(order_.end(), order_, found);
      }
    }
    while (order_.size() + absent.size() > capacity_) order_.pop_front();
    for (std::size_t i = absent.size(); i-- > 0;) order_.push_back(absent[i]);
  }

 private:
  using Block = std::pair<std::uint64_t, std::uint32_t>;
  std::list<Block>::iterator find(const Block& block) {
    return std::find(order_.begin(), order_.end(), block);
  }
  const std::size_t capacity_;
  std::list<Block> order_;
};

TEST_F(EngineRoomTest, EqualColumnsLeaveAsInAnExactLru) {
  constexpr std::uint32_t kColumns = 100;
  capacity_cells = kColumns;
  options.lock_share = 1;
  add_model();
  LruModel model{kColumns};
  Random random{12};
  for (int step = 0; step < 3'000; ++step) {
    const std::uint64_t prompt = random.below(30);
    const auto count = static_cast<std::uint32_t>(1 + random.below(12));
    const auto chain = chain_of(prompt, count);
    LookupSpec spec{.space = space_, .chunks = chain};
    engine().lookup({1, "r"}, spec);
    ASSERT_EQ(engine().take_result({1, "r"}), model.look_up(prompt, count)) << "step " << step;
    engine().end({1, "r"});
    const auto write = engine().begin_write(write_spec(0, chain, {0, count}), slots);
    if (write) engine().end_write(*write, WriteEnd::kPublish);
    model.store(prompt, count);
  }
}

TEST_F(EngineRoomTest, EightRanksHitAsOne) {
  constexpr std::uint32_t kColumns = 50;
  std::vector<std::uint32_t> hits[2];
  for (const std::uint32_t ranks : {1U, 8U}) {
    engine_.reset();
    capacity_cells = std::uint64_t{kColumns} * ranks;
    options.lock_share = 1;
    add_model(ranks);
    Random random{77};
    for (int step = 0; step < 500; ++step) {
      const auto chain =
          chain_of(random.below(20), static_cast<std::uint32_t>(1 + random.below(9)));
      hits[ranks == 1 ? 0 : 1].push_back(look_up("r", chain));
      end("r");
      store(chain);
    }
  }
  EXPECT_EQ(hits[0], hits[1]);
}

// ---- E22.

TEST_F(EngineRoomTest, ASaltAboveItsLimitLosesItsOwnColdestColumns) {
  capacity_cells = 20;
  add_model();
  engine().set_quota(SaltId{1}, {.limit_bytes = 4 * kGrain});
  store(chain_of(9, 8), salt(2));
  store(chain_of(1, 3), salt(1));

  EXPECT_EQ(store(chain_of(2, 3), salt(1)), 3U);

  EXPECT_EQ(resident_of(chain_of(9, 8), salt(2)), 8U);
  EXPECT_EQ(resident_of(chain_of(2, 3), salt(1)), 3U);
  EXPECT_EQ(resident_of(chain_of(1, 3), salt(1)), 1U);
}

TEST_F(EngineRoomTest, AWriteThatStaysAboveTheLimitGetsNoSlots) {
  add_model();
  engine().set_quota(SaltId{1}, {.limit_bytes = 2 * kGrain});

  EXPECT_EQ(store(chain_of(1, 5), salt(1)), 2U);
  EXPECT_GT(stats().totals.failed_quota, 0U);
  engine().set_quota(SaltId{1}, {.limit_bytes = 0});
  EXPECT_FALSE(begin_write(0, chain_of(2, 1), {0, 1}, salt(1)));
}

TEST_F(EngineRoomTest, ASaltWithinItsGuaranteeLosesNoneToOthers) {
  capacity_cells = 10;
  add_model();
  engine().set_quota(SaltId{1}, {.guarantee_bytes = 4 * kGrain});
  store(chain_of(1, 4), salt(1));

  for (std::uint64_t prompt = 10; prompt < 20; ++prompt) store(chain_of(prompt, 6), salt(2));

  EXPECT_EQ(resident_of(chain_of(1, 4), salt(1)), 4U);
}

TEST_F(EngineRoomTest, WithoutAQuotaTheColdestOfAllGoes) {
  capacity_cells = 10;
  add_model();
  store(chain_of(1, 4), salt(1));

  store(chain_of(2, 10), salt(2));

  EXPECT_EQ(resident_of(chain_of(1, 4), salt(1)), 0U);
}

TEST_F(EngineRoomTest, AQuotaThatIsSetLaterKeepsTheOrderOfUse) {
  capacity_cells = 12;
  add_model();
  store(chain_of(1, 2), salt(1));
  store(chain_of(2, 2), salt(1));
  resident_of(chain_of(1, 2), salt(1));  // Used again.
  engine().set_quota(SaltId{1}, {.limit_bytes = 4 * kGrain});
  engine().check_invariants();

  store(chain_of(3, 2), salt(1));

  EXPECT_EQ(resident_of(chain_of(1, 2), salt(1)), 2U);
  EXPECT_EQ(resident_of(chain_of(2, 2), salt(1)), 0U);
}

TEST_F(EngineRoomTest, ALimitThatIsLoweredFreesRoomForOthersFirst) {
  capacity_cells = 10;
  add_model();
  store(chain_of(2, 4), salt(2));
  store(chain_of(1, 6), salt(1));
  engine().set_quota(SaltId{1}, {.limit_bytes = 2 * kGrain});

  store(chain_of(3, 4), salt(2));

  EXPECT_EQ(resident_of(chain_of(2, 4), salt(2)), 4U);
  EXPECT_EQ(resident_of(chain_of(1, 6), salt(1)), 2U);
}

TEST_F(EngineRoomTest, WhatIsAboveALoweredLimitLeavesInBoundedTurns) {
  options.evict_cells_max = 16;
  add_model();
  store(chain_of(2, 4), salt(2));
  store(chain_of(1, 50), salt(1));
  const std::uint64_t others = stats().resident_bytes - engine().salt_stats(SaltId{1}).l1_bytes;
  engine().set_quota(SaltId{1}, {.limit_bytes = 10 * kGrain});
  EXPECT_EQ(engine().salt_stats(SaltId{1}).l1_bytes, 50 * kGrain);

  for (const std::uint64_t left : {34U, 18U, 10U}) {
    const bool is_done = engine().turn(now_ns) > now_ns;
    EXPECT_EQ(engine().salt_stats(SaltId{1}).l1_bytes, left * kGrain);
    EXPECT_EQ(is_done, left == 10);
    engine().check_invariants();
  }

  EXPECT_EQ(resident_of(chain_of(1, 50), salt(1)), 10U);  // The tails went first.
  EXPECT_EQ(engine().salt_stats(SaltId{2}).l1_bytes, others);
}

TEST_F(EngineRoomTest, WhatIsAboveALimitAndLockedStaysUntilItIsNot) {
  add_model();
  const auto chain = chain_of(1, 6);
  store(chain, salt(1));
  space_ = salt(1);
  look_up("r", chain);
  engine().set_quota(SaltId{1}, {.limit_bytes = 2 * kGrain});
  advance(1);
  EXPECT_EQ(engine().salt_stats(SaltId{1}).l1_bytes, 6 * kGrain);
  end("r");
  advance(1);
  EXPECT_EQ(engine().salt_stats(SaltId{1}).l1_bytes, 2 * kGrain);
}

TEST_F(EngineRoomTest, AQuotaThatEndsLeavesItsColumnsToTheOrderOfAll) {
  capacity_cells = 12;
  add_model();
  engine().set_quota(SaltId{1}, {.guarantee_bytes = 8 * kGrain});
  store(chain_of(1, 2), salt(1));
  store(chain_of(2, 2), salt(1));
  store(chain_of(3, 4), salt(2));
  engine().set_quota(SaltId{1}, {});
  engine().check_invariants();
  resident_of(chain_of(1, 2), salt(1));  // Used again: it goes over to the shared order.
  engine().check_invariants();
  EXPECT_EQ(engine().salt_stats(SaltId{1}).columns, 4U);

  store(chain_of(4, 6), salt(2));  // Four are free, so two must go.

  EXPECT_EQ(resident_of(chain_of(2, 2), salt(1)), 0U);
  EXPECT_EQ(resident_of(chain_of(1, 2), salt(1)), 2U);
  // The salt gets a quota again: columns of the old one and those that moved are together again.
  engine().set_quota(SaltId{1}, {.limit_bytes = 4 * kGrain});
  engine().check_invariants();
  EXPECT_EQ(engine().salt_stats(SaltId{1}).columns, 2U);
}

TEST_F(EngineRoomTest, OfManySaltsWithQuotasTheColdestColumnGoes) {
  capacity_cells = 200;
  add_model();
  // Each salt is used in turn; the first of them has the coldest columns.
  for (std::uint32_t i = 0; i < 100; ++i) {
    engine().set_quota(SaltId{i}, {.limit_bytes = 8 * kGrain});
    store(chain_of(1, 2), salt(i));
  }
  store(chain_of(2, 6), salt(101));
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(engine().salt_stats(SaltId{i}).columns, i < 3 ? 0U : 2U) << i;
  }
  for (std::uint32_t i = 0; i < 100; ++i) engine().set_quota(SaltId{i}, {});
  engine().check_invariants();
  store(chain_of(3, 4), salt(101));
  EXPECT_EQ(engine().salt_stats(SaltId{4}).columns, 0U);
  EXPECT_EQ(engine().salt_stats(SaltId{5}).columns, 2U);
  engine().check_invariants();
}

TEST_F(EngineRoomTest, SaltsBeyondTheFirstAreOneInTheStatistics) {
  capacity_cells = 256;
  add_model();
  for (std::uint32_t i = 0; i < kSaltsCounted + 3; ++i) store(chain_of(1, 2), salt(i));
  engine().set_quota(SaltId{1}, {.limit_bytes = 2 * kGrain, .guarantee_bytes = kGrain});
  engine().set_quota(SaltId{kSaltsCounted + 1}, {.limit_bytes = 2 * kGrain});
  EXPECT_EQ(store(chain_of(2, 4), salt(1)), 2U);
  EXPECT_EQ(store(chain_of(2, 4), salt(kSaltsCounted + 1)), 2U);

  const EngineStats now = stats();
  ASSERT_EQ(now.salts.size(), kSaltsCounted + 1);
  EXPECT_EQ(now.salts[1].quota.guarantee_bytes, kGrain);
  EXPECT_EQ(now.salts[1].l1_bytes, 2 * kGrain);
  EXPECT_EQ(now.salts[1].columns, 2U);
  EXPECT_EQ(now.salts[1].refused, 1U);
  EXPECT_EQ(now.salts.back().l1_bytes, 3 * 2 * kGrain);
  EXPECT_EQ(now.salts.back().columns, 6U);
  EXPECT_EQ(now.salts.back().refused, 1U);
  EXPECT_EQ(engine().salt_stats(SaltId{5000}).l1_bytes, 0U);
}

TEST_F(EngineRoomTest, AboveTheHighWatermarkColumnsLeaveDownToTheLowOne) {
  capacity_cells = 100;
  options.high_watermark = 0.8;
  options.low_watermark = 0.5;
  options.evict_cells_max = 20;
  add_model();
  store(chain_of(1, 40));
  store(chain_of(2, 40));
  advance(1);
  EXPECT_EQ(stats().columns, 80U);  // At the mark, not above it.
  store(chain_of(3, 5));

  EXPECT_EQ(engine().turn(now_ns), now_ns);  // E19: it continues in the next turn.
  EXPECT_EQ(stats().columns, 65U);
  EXPECT_GT(engine().turn(now_ns), now_ns);

  EXPECT_EQ(stats().columns, 50U);
  EXPECT_EQ(look_up("r", chain_of(2, 40)), 40U);
  EXPECT_EQ(look_up("s", chain_of(1, 40)), 5U);  // Tails first.
}

TEST_F(EngineRoomTest, NothingLeavesAheadOfNeedThatIsLocked) {
  capacity_cells = 100;
  options.high_watermark = 0.5;
  options.low_watermark = 0.1;
  add_model();
  store(chain_of(1, 45));
  EXPECT_EQ(look_up("r", chain_of(1, 45)), 45U);
  store(chain_of(2, 20));

  advance(1);

  EXPECT_EQ(stats().columns, 45U);
}

TEST_F(EngineRoomTest, NothingLeavesAheadOfNeedThatIsGuaranteed) {
  capacity_cells = 100;
  options.high_watermark = 0.8;
  options.low_watermark = 0.5;
  add_model();
  const SpaceId other = engine().space(layout_, SaltId{1});
  engine().set_quota(SaltId{0}, {.guarantee_bytes = 60 * kGrain});
  store(chain_of(1, 50));  // Coldest.
  store(chain_of(2, 40), other);

  advance(1);

  EXPECT_EQ(look_up("r", chain_of(1, 50)), 50U);
}

TEST_F(EngineRoomTest, WatermarksThatCrossAreRefused) {
  EngineOptions crossed;
  crossed.high_watermark = 0.5;
  crossed.low_watermark = 0.6;
  EXPECT_FALSE(crossed.validate());
  crossed.high_watermark = 1.5;
  EXPECT_FALSE(crossed.validate());
}

TEST_F(EngineRoomTest, NoopEvictsNothing) {
  capacity_cells = 4;
  options.policy = "noop";
  add_model();
  store(chain_of(1, 3));

  EXPECT_EQ(store(chain_of(2, 3)), 1U);
  EXPECT_FALSE(begin_write(0, chain_of(3, 1), {0, 1}));
}

// ---- E2, E36.

TEST_F(EngineRoomTest, ClearMakesUnlockedCellsAbsent) {
  add_model(2);
  const auto locked = chain_of(1, 3);
  store(locked);
  store(chain_of(2, 4));
  look_up("r", locked);

  const ClearResult cleared = engine().clear({});

  EXPECT_EQ(cleared.cells, 8U);
  EXPECT_EQ(cleared.cells_locked, 6U);
  EXPECT_EQ(look_up("s", chain_of(2, 4)), 0U);
  EXPECT_TRUE(begin_read(read_spec("r", 0, locked, {0, 3})));
}

TEST_F(EngineRoomTest, ForcedClearDropsLockedCellsAndLaterReadsFail) {
  add_model();
  const auto chain = chain_of(1, 3);
  store(chain);
  look_up("r", chain);

  EXPECT_EQ(engine().clear({.force = true}).cells, 3U);
  engine().check_invariants();

  EXPECT_EQ(locked_cells(), 0U);
  EXPECT_FALSE(begin_read(read_spec("r", 0, chain, {0, 3})));
  store(chain);
  look_up("s", chain);
  end("r");  // Its shares are void: those of "s" stay.
  EXPECT_EQ(locked_cells(), 3U);
}

TEST_F(EngineRoomTest, AClaimedSlotSurvivesAForcedClear) {
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  const auto read = begin_read(read_spec("r", 0, chain, {0, 2}));
  const auto claimed = slots;
  engine().clear({.force = true});
  EXPECT_EQ(stats().orphan_bytes, 2 * kGrain);

  const auto write = begin_write(0, chain, {0, 2});
  ASSERT_TRUE(write);
  for (const CellSlot& slot : slots) {
    for (const CellSlot& old : claimed) EXPECT_NE(slot.slot.offset, old.slot.offset);
  }
  engine().end_read(*read);

  EXPECT_EQ(stats().orphan_bytes, 0U);
}

TEST_F(EngineRoomTest, ClearDiscardsOpenReservationsAtTheirCommit) {
  add_model();
  const auto chain = chain_of(1, 2);
  const auto write = begin_write(0, chain, {0, 2});

  engine().clear({});
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineRoomTest, ClearOfOneSpaceLeavesTheOthers) {
  add_model();
  store(chain_of(1, 2), salt(1));
  store(chain_of(1, 2), salt(2));

  engine().clear({.space = salt(1)});

  EXPECT_EQ(resident_of(chain_of(1, 2), salt(1)), 0U);
  EXPECT_EQ(resident_of(chain_of(1, 2), salt(2)), 2U);
}

TEST_F(EngineRoomTest, RemovingAChunkTakesItsLocksAndItsOpenWrite) {
  add_model(2);
  const auto chain = chain_of(1, 3);
  store_rank(0, chain, {0, 3});
  const auto write = begin_write(1, chain, {0, 3});

  engine().remove(space_, std::span{chain}.subspan(1, 1));
  engine().check_invariants();
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));

  EXPECT_EQ(look_up("r", chain), 1U);
  EXPECT_EQ(stats().totals.cells_dropped, 1U);
}

TEST_F(EngineRoomTest, ARemovedColumnIsTold) {
  add_model(2);
  const auto chain = chain_of(1, 1);
  store(chain);
  heard.events.clear();

  engine().remove(space_, chain);

  ASSERT_EQ(heard.events.size(), 1U);
  EXPECT_EQ(heard.events[0].event, ColumnEvent::kRemoved);
}

}  // namespace
}  // namespace larder::cache
