// Whole values by key: E30, E35.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

/// A get with its memory.
class Asked {
 public:
  Asked(std::vector<std::string> keys, std::span<const ChunkHash> chunks, std::size_t bytes)
      : keys_(std::move(keys)),
        chunks_(chunks.begin(), chunks.end()),
        memory_(keys_.size(), std::string(bytes, '.')),
        slices_(keys_.size()),
        items(keys_.size()) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      slices_[i] = {reinterpret_cast<std::byte*>(memory_[i].data()), bytes};
      items[i].key = std::as_bytes(std::span{keys_[i]});
      items[i].value = std::span{&slices_[i], 1};
    }
  }
  GetSpec spec(SpaceId space) {
    GetSpec spec;
    spec.space = space;
    spec.chunks = chunks_;
    spec.items = items;
    return spec;
  }
  const std::string& memory(std::size_t i) const { return memory_[i]; }

 private:
  std::vector<std::string> keys_;
  std::vector<ChunkHash> chunks_;
  std::vector<std::string> memory_;
  std::vector<Slice> slices_;

 public:
  std::vector<Item> items;
};

class EngineGetTest : public EngineTierFixture {
 protected:
  EngineGetTest() { arena_kind = ArenaKind::kPrivate; }

  ScriptedTier& add_copying_tier(const TierOptions& with = {}) {
    ScriptedTier& tier = add_tier(with);
    tier.copies = true;
    return tier;
  }
  /// The space has values of open sizes.
  void add_values() {
    LayoutSpec spec = layout_spec();
    spec.groups[0].cell_bytes = 0;
    layout_ = *engine().add_layout(spec);
    space_ = engine().space(layout_, SaltId{0});
    owner_ = engine().add_owner(layout_);
  }
  static std::string value_of(std::uint64_t prompt, std::size_t i, std::size_t bytes) {
    return std::string(bytes, static_cast<char>('a' + (prompt * 7 + i) % 26));
  }
  void put_values(ScriptedTier& tier, std::uint64_t prompt, std::uint32_t count,
                  std::size_t bytes) {
    const auto chain = chain_of(prompt, count);
    for (std::size_t i = 0; i < count; ++i) {
      tier.values[key_of(chain[i])] = value_of(prompt, i, bytes);
      tier.sizes[key_of(chain[i])] = bytes;
    }
  }
  Asked ask(std::uint64_t prompt, std::uint32_t count, std::size_t bytes) {
    const auto chain = chain_of(prompt, count);
    std::vector<std::string> keys;
    for (const ChunkHash& chunk : chain) keys.push_back(key_of(chunk));
    return {std::move(keys), chain, bytes};
  }
  /// The value, wherever the get has left it.
  std::string value(const Asked& asked, std::size_t get, std::size_t i) {
    const GetOutcome& outcome = heard.gets[get].outcomes[i];
    if (outcome.slot.bytes == 0) return asked.memory(i);
    return {reinterpret_cast<const char*>(arena_->base()) + outcome.slot.offset,
            outcome.slot.bytes};
  }
  void store_value(std::uint64_t prompt, std::uint32_t count, std::size_t bytes) {
    const auto chain = chain_of(prompt, count);
    const std::vector<std::uint64_t> sizes(count, bytes);
    WriteSpec spec = write_spec(0, chain, {0, count});
    spec.bytes = sizes;
    const auto write = engine().begin_write(spec, slots);
    ASSERT_TRUE(write);
    for (const CellSlot& slot : slots) {
      value_of(prompt, slot.chunk, bytes)
          .copy(reinterpret_cast<char*>(arena_->base()) + slot.slot.offset, bytes);
    }
    ASSERT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  }
};

TEST_F(EngineGetTest, AValueInL1IsAnsweredAtOnceWithItsSlot) {
  add_values();
  store_value(1, 3, 1000);
  Asked asked = ask(1, 3, 1000);

  engine().get(Ticket{9}, asked.spec(space_));

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(heard.gets[0].ticket, Ticket{9});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(heard.gets[0].outcomes[i].outcome, Outcome::kHit);
    EXPECT_EQ(value(asked, 0, i), value_of(1, i, 1000));
  }
  engine().clear({.force = true});
  EXPECT_EQ(stats().orphan_bytes, 3 * kGrain);  // Claimed until the driver has copied.
  engine().end_get(Ticket{9});
  EXPECT_EQ(stats().orphan_bytes, 0U);
}

TEST_F(EngineGetTest, WithoutPromotionAValueGoesStraightToTheCaller) {
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 3, 1000);
  Asked asked = ask(1, 4, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(heard.gets[0].outcomes[i].slot.bytes, 0U);
    EXPECT_EQ(asked.memory(i), value_of(1, i, 1000));
  }
  EXPECT_EQ(heard.gets[0].outcomes[3].outcome, Outcome::kMiss);
  EXPECT_EQ(stats().resident_bytes, 0U);
}

TEST_F(EngineGetTest, RetainLoadsThroughASlotThatStays) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 3, 1000);
  Asked asked = ask(1, 3, 1000);
  engine().get(Ticket{1}, asked.spec(space_));
  reap();
  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(value(asked, 0, i), value_of(1, i, 1000));
  engine().end_get(Ticket{1});
  engine().check_invariants();

  engine().get(Ticket{2}, asked.spec(space_));

  EXPECT_EQ(heard.gets.size(), 2U);
  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);
  EXPECT_EQ(stats().totals.cells_promoted, 3U);
  engine().end_get(Ticket{2});
}

TEST_F(EngineGetTest, NothingBehindAHoleIsPromoted) {
  options.promote = Promote::kRetain;
  capacity_cells = 8;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 5, 1000);
  tier.sizes.erase(key_of(chain_of(1, 5)[2]));
  Asked asked = ask(1, 5, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();
  engine().end_get(Ticket{1});

  EXPECT_EQ(heard.gets[0].outcomes[4].outcome, Outcome::kHit);
  EXPECT_EQ(stats().totals.cells_promoted, 2U);
  store_value(2, 6, 1000);  // Evicts cold columns for room.
  EXPECT_TRUE(engine().find(space_, chain_of(1, 5)[1]));
  EXPECT_FALSE(engine().find(space_, chain_of(1, 5)[4]));
}

TEST_F(EngineGetTest, UnorderedKeysAreEachForItself) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 5, 1000);
  tier.sizes.erase(key_of(chain_of(1, 5)[2]));
  Asked asked = ask(1, 5, 1000);
  GetSpec spec = asked.spec(space_);
  spec.is_ordered = false;

  engine().get(Ticket{1}, spec);
  reap();
  engine().end_get(Ticket{1});

  EXPECT_EQ(stats().totals.cells_promoted, 4U);
}

TEST_F(EngineGetTest, AMissOrFailureIsTriedOnTheNextTier) {
  ScriptedTier& first = add_copying_tier();
  ScriptedTier& second = add_copying_tier();
  add_values();
  put_values(first, 1, 2, 1000);
  put_values(second, 1, 3, 1000);
  first.failing.insert(key_of(chain_of(1, 1)[0]));
  Asked asked = ask(1, 4, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(heard.gets[0].outcomes[i].outcome, Outcome::kHit);
    EXPECT_EQ(asked.memory(i), value_of(1, i, 1000));
  }
  EXPECT_EQ(heard.gets[0].outcomes[0].tier, 1U);
  EXPECT_EQ(heard.gets[0].outcomes[1].tier, 0U);
  EXPECT_EQ(heard.gets[0].outcomes[3].outcome, Outcome::kMiss);
}

TEST_F(EngineGetTest, AFailureStaysOneWhereTheNextTierHasNoSuchKey) {
  ScriptedTier& first = add_copying_tier();
  add_copying_tier();
  add_values();
  put_values(first, 1, 1, 1000);
  first.failing.insert(key_of(chain_of(1, 1)[0]));
  Asked asked = ask(1, 1, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  EXPECT_EQ(heard.gets[0].outcomes[0].outcome, Outcome::kFailed);
  EXPECT_EQ(asked.items[0].error.code(), ErrorCode::kIo);
}

TEST_F(EngineGetTest, AWrongSizeIsToldWithTheStoredOne) {
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 1, 1000);
  Asked asked = ask(1, 1, 999);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  EXPECT_EQ(asked.items[0].error.code(), ErrorCode::kSizeMismatch);
  EXPECT_EQ(asked.items[0].value_bytes, 1000U);
}

TEST_F(EngineGetTest, APromotionWithoutRoomChangesNoAnswer) {
  options.promote = Promote::kRetain;
  options.lock_share = 1;
  capacity_cells = 2;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  store_value(2, 2, 1000);
  Asked pinned = ask(2, 2, 1000);
  engine().get(Ticket{7}, pinned.spec(space_));
  put_values(tier, 1, 3, 1000);
  Asked asked = ask(1, 3, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(value(asked, 1, i), value_of(1, i, 1000));
  engine().end_get(Ticket{7});
}

TEST_F(EngineGetTest, AFillThatFailsChangesNoAnswer) {
  options.promote = Promote::kRetain;
  ScriptedTier& near = add_copying_tier({.store = false, .fill = Fill::kAlways});
  ScriptedTier& far = add_copying_tier({.store = false});
  far.locality = Locality::kRemote;
  add_values();
  put_values(far, 1, 3, 1000);
  for (const ChunkHash& chunk : chain_of(1, 3)) near.failing_stores.insert(key_of(chunk));
  Asked asked = ask(1, 3, 1000);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(value(asked, 0, i), value_of(1, i, 1000));
  engine().end_get(Ticket{1});
  for (int second = 0; second < 4; ++second) advance_all(kSecond);
  EXPECT_EQ(stats().totals.l2_store_failed, 3U);
  EXPECT_EQ(stats().cells_wanted, 0U);
}

TEST_F(EngineGetTest, AClearDuringTheLoadIsAMissAndKeepsNothing) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_copying_tier();
  tier.holds = true;
  add_values();
  put_values(tier, 1, 2, 1000);
  Asked asked = ask(1, 2, 1000);
  engine().get(Ticket{1}, asked.spec(space_));

  engine().clear({.force = true});
  tier.finish_all();
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(heard.gets[0].outcomes[0].outcome, Outcome::kMiss);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EngineGetTest, AValueThatTakesMostOfL1IsNotPromoted) {
  options.promote = Promote::kRetain;
  capacity_cells = 4;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  store_value(2, 2, 1000);
  put_values(tier, 1, 1, 3 * kGrain);
  Asked asked = ask(1, 1, 3 * kGrain);

  engine().get(Ticket{1}, asked.spec(space_));
  reap();

  EXPECT_EQ(asked.memory(0), value_of(1, 0, 3 * kGrain));
  EXPECT_TRUE(engine().find(space_, chain_of(2, 1)[0]));  // L1 was not emptied for it.
}

TEST_F(EngineGetTest, ACancelledGetTriesNoFurtherTier) {
  ScriptedTier& first = add_copying_tier();
  ScriptedTier& second = add_copying_tier();
  first.holds = true;
  add_values();
  put_values(second, 1, 1, 1000);
  Asked asked = ask(1, 1, 1000);
  engine().get(Ticket{1}, asked.spec(space_));

  engine().cancel_get(Ticket{1});
  first.finish_all();
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_NE(heard.gets[0].outcomes[0].outcome, Outcome::kHit);
  EXPECT_EQ(second.calls_of(Op::kGet), 0U);
}

TEST_F(EngineGetTest, GetsAndTouchesAreHitsForMinHits) {
  ScriptedTier& tier = add_copying_tier({.min_hits = 2});
  add_values();
  store_value(1, 2, 1000);
  Asked asked = ask(1, 1, 1000);
  engine().get(Ticket{1}, asked.spec(space_));
  engine().end_get(Ticket{1});
  EXPECT_EQ(tier.calls_of(Op::kSet), 0U);

  engine().touch(space_, chain_of(1, 1)[0]);
  reap();

  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 1U);
}

// ---- Without a destination: GetSpec::stays.

TEST_F(EngineGetTest, WhatStaysIsLoadedIntoL1WhateverThePromotionSays) {
  options.promote = Promote::kDefault;
  ScriptedTier& tier = add_copying_tier();
  tier.locality = Locality::kMemory;
  add_values();
  put_values(tier, 1, 3, 1000);
  Asked asked = ask(1, 4, 1000);
  GetSpec spec = asked.spec(space_);
  spec.stays = true;

  engine().get(Ticket{1}, spec);
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(value(asked, 0, i), value_of(1, i, 1000));
  EXPECT_EQ(heard.gets[0].outcomes[3].outcome, Outcome::kMiss);
  engine().end_get(Ticket{1});
  engine().check_invariants();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(engine().find(space_, chain_of(1, 4)[i]), 1000U);
  EXPECT_EQ(stats().totals.cells_promoted, 3U);
}

TEST_F(EngineGetTest, WhatStaysTakesNoMemoryOfItsCaller) {
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 1, 1000);
  Asked asked = ask(1, 1, 1000);
  Slice nowhere{nullptr, 1000};
  asked.items[0].value = {&nowhere, 1};
  GetSpec spec = asked.spec(space_);
  spec.stays = true;

  engine().get(Ticket{1}, spec);
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(value(asked, 0, 0), value_of(1, 0, 1000));
  engine().end_get(Ticket{1});
}

TEST_F(EngineGetTest, WhatHasNoRoomInL1FailsAndIsNotLoaded) {
  capacity_cells = 8;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 9, 1000);
  Asked asked = ask(1, 9, 1000);
  GetSpec spec = asked.spec(space_);
  spec.stays = true;

  engine().get(Ticket{1}, spec);  // All eight slots are loading: no room for the ninth.
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(heard.gets[0].outcomes[7].outcome, Outcome::kHit);
  EXPECT_EQ(heard.gets[0].outcomes[8].outcome, Outcome::kFailed);
  EXPECT_EQ(asked.items[8].error.code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 8U);
  engine().end_get(Ticket{1});
}

TEST_F(EngineGetTest, WhatStaysAndHasToWaitForEvictionsGoesOnInTheNextTurn) {
  capacity_cells = 8;
  options.evict_cells_max = 3;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 8, 1000);
  store_value(2, 8, 1000);
  reap();  // The tier has it, so that it may go.
  engine().turn(now_ns);
  Asked asked = ask(1, 8, 1000);
  GetSpec spec = asked.spec(space_);
  spec.stays = true;

  engine().get(Ticket{1}, spec);
  reap();
  EXPECT_TRUE(heard.gets.empty());
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 3U);
  EXPECT_EQ(engine().turn(now_ns), now_ns) << "it wants to be called at once";
  reap();
  engine().turn(now_ns);
  reap();

  ASSERT_EQ(heard.gets.size(), 1U);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(value(asked, 0, i), value_of(1, i, 1000));
  engine().end_get(Ticket{1});
  EXPECT_GT(engine().turn(now_ns), now_ns);
}

TEST_F(EngineGetTest, WhatWaitsForEvictionsIsFoundWhereAnotherGetHasBroughtIt) {
  capacity_cells = 8;
  options.evict_cells_max = 1;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 4, 1000);
  store_value(2, 8, 1000);
  reap();  // The tier has it, so that it may go.
  engine().turn(now_ns);
  Asked first = ask(1, 4, 1000);
  Asked second = ask(1, 4, 1000);
  GetSpec spec = first.spec(space_);
  spec.stays = true;
  GetSpec same = second.spec(space_);
  same.stays = true;

  engine().get(Ticket{1}, spec);
  engine().get(Ticket{2}, same);
  for (int i = 0; i < 20 && heard.gets.size() < 2; ++i) {
    reap();
    engine().turn(now_ns);
  }

  ASSERT_EQ(heard.gets.size(), 2U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(first.items[i].outcome, Outcome::kHit) << i;
    EXPECT_NE(second.items[i].outcome, Outcome::kFailed) << i;
  }
  EXPECT_EQ(tier.keys_of(Op::kGet).size(), 4U) << "each was loaded once";
  engine().end_get(Ticket{1});
  engine().end_get(Ticket{2});
}

TEST_F(EngineGetTest, WhatWaitsForEvictionsEndsAtItsDeadlineAndWhenItIsCancelled) {
  capacity_cells = 8;
  options.evict_cells_max = 1;
  ScriptedTier& tier = add_copying_tier();
  add_values();
  put_values(tier, 1, 4, 1000);
  put_values(tier, 3, 4, 1000);
  store_value(2, 8, 1000);
  reap();
  tier.holds = true;
  engine().turn(now_ns);
  Asked late = ask(1, 4, 1000);
  GetSpec spec = late.spec(space_);
  spec.stays = true;
  spec.deadline_ns = now_ns + 10;
  Asked cancelled = ask(3, 4, 1000);
  GetSpec other = cancelled.spec(space_);
  other.stays = true;
  engine().get(Ticket{1}, spec);
  engine().get(Ticket{2}, other);

  engine().cancel_get(Ticket{2});
  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(heard.gets[0].ticket, Ticket{2});
  for (const Item& item : cancelled.items) {
    EXPECT_EQ(item.outcome, Outcome::kFailed);
    EXPECT_EQ(item.error.code(), ErrorCode::kCancelled);
  }
  now_ns += 10;
  engine().turn(now_ns);
  tier.holds = false;
  tier.finish_all();
  reap();

  ASSERT_EQ(heard.gets.size(), 2U);
  EXPECT_EQ(late.items[3].error.code(), ErrorCode::kDeadlineExceeded);
  engine().end_get(Ticket{1});
}

TEST_F(EngineGetTest, WhatIsBeingLoadedIntoL1IsNotLoadedTwice) {
  ScriptedTier& tier = add_copying_tier();
  tier.holds = true;
  add_values();
  put_values(tier, 1, 1, 1000);
  Asked first = ask(1, 1, 1000);
  Asked second = ask(1, 1, 1000);
  GetSpec spec = first.spec(space_);
  spec.stays = true;
  GetSpec again = second.spec(space_);
  again.stays = true;
  engine().get(Ticket{1}, spec);

  engine().get(Ticket{2}, again);

  ASSERT_EQ(heard.gets.size(), 1U);
  EXPECT_EQ(heard.gets[0].ticket, Ticket{2});
  EXPECT_TRUE(heard.gets[0].outcomes[0].is_loading);
  tier.holds = false;
  tier.finish_all();
  reap();
  ASSERT_EQ(heard.gets.size(), 2U);
  EXPECT_EQ(heard.gets[1].outcomes[0].outcome, Outcome::kHit);
  EXPECT_FALSE(heard.gets[1].outcomes[0].is_loading);
  engine().end_get(Ticket{1});
}

}  // namespace
}  // namespace larder::cache
