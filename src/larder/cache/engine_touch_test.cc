// The touches that tiers get for columns that L1 serves: E40.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineTouchTest : public EngineTierFixture {
 protected:
  /// A tier that only hears, and a prompt in L1 that was stored an interval ago.
  ScriptedTier& add_model_with(std::span<const ChunkHash> chain, TierOptions with = {}) {
    with.store = false;
    ScriptedTier& tier = add_tier(with);
    add_model();
    store(chain);
    advance(options.touch_interval_ns);
    return tier;
  }
  std::uint32_t hit(std::span<const ChunkHash> chain) {
    const std::uint32_t chunks = look_up("r", chain);
    end("r");
    reap();
    return chunks;
  }
  std::vector<std::string> keys_of_chunks(std::span<const ChunkHash> chunks) {
    std::vector<std::string> keys;
    for (const ChunkHash& chunk : chunks) keys.push_back(key_of(chunk));
    return keys;
  }
};

TEST_F(EngineTouchTest, ATierHearsOfAHitThatL1Serves) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_with(chain);

  EXPECT_EQ(hit(std::span{chain}.first(3)), 3U);

  EXPECT_EQ(tier.keys_of(Op::kTouch), keys_of_chunks(std::span{chain}.first(3)));
  EXPECT_EQ(tier.calls.front().urgency, Urgency::kBackground);
  EXPECT_EQ(stats().totals.l2_touches, 3U);
  EXPECT_EQ(stats().l2_batches, 0U);
}

TEST_F(EngineTouchTest, ATierHearsOnceInAnInterval) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_with(chain);

  hit(chain);
  hit(chain);
  EXPECT_EQ(tier.calls_of(Op::kTouch), 1U);

  advance(options.touch_interval_ns);
  hit(chain);
  EXPECT_EQ(tier.calls_of(Op::kTouch), 2U);
}

TEST_F(EngineTouchTest, WhatCameInThisIntervalIsNotTold) {
  ScriptedTier& tier = add_tier({.store = false});
  add_model();
  const auto chain = chain_of(1, 4);
  store(std::span{chain}.first(2));
  put(tier, chain);
  start_lookup("a", chain);
  reap();
  ASSERT_EQ(result("a"), 4U);

  hit(chain);

  EXPECT_EQ(tier.calls_of(Op::kTouch), 0U);
}

TEST_F(EngineTouchTest, WhatFindsATierBusyIsDroppedAndToldLater) {
  const auto chain = chain_of(1, 4);
  const auto other = chain_of(2, 4);
  ScriptedTier& tier = add_model_with(chain);
  store(other);
  advance(options.touch_interval_ns);
  tier.holds = true;

  hit(chain);
  hit(other);
  EXPECT_EQ(tier.calls_of(Op::kTouch), 1U);
  EXPECT_EQ(stats().totals.columns_not_touched, 4U);
  tier.finish_all();
  reap();
  hit(other);

  EXPECT_EQ(tier.calls_of(Op::kTouch), 2U);
  EXPECT_EQ(tier.calls.back().keys, keys_of_chunks(other));
}

TEST_F(EngineTouchTest, ABatchIsBoundedAndHeadsGoFirst) {
  options.exists_keys_max = 3;
  const auto chain = chain_of(1, 5);
  ScriptedTier& tier = add_model_with(chain);

  hit(chain);
  EXPECT_EQ(tier.keys_of(Op::kTouch), keys_of_chunks(std::span{chain}.first(3)));
  EXPECT_EQ(stats().totals.columns_not_touched, 2U);
  hit(chain);

  EXPECT_EQ(tier.calls.back().keys, keys_of_chunks(std::span{chain}.subspan(3)));
}

TEST_F(EngineTouchTest, ChunksBelowTheBeginAreToldOf) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_with(chain);

  engine().lookup({1, "r"}, {.space = space_, .chunks = chain, .begin = 2});
  reap();

  EXPECT_EQ(tier.keys_of(Op::kTouch), keys_of_chunks(chain));
}

TEST_F(EngineTouchTest, ATierDoesNotHearOfWhatItIsStillToGet) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  advance(options.touch_interval_ns);

  hit(chain);

  EXPECT_EQ(tier.calls_of(Op::kTouch), 0U);
}

TEST_F(EngineTouchTest, ATierThatIsNotLoadedFromOrDoesNotWantToHearsNothing) {
  add_tier({.load = false, .store = false});
  const auto chain = chain_of(1, 4);
  add_model_with(chain, {.touch = false});

  hit(chain);

  EXPECT_EQ(scripted[0]->calls_of(Op::kTouch) + scripted[1]->calls_of(Op::kTouch), 0U);
  EXPECT_EQ(stats().totals.columns_not_touched, 0U);
}

TEST_F(EngineTouchTest, ATouchThatIsRefusedHoldsUpNoLoad) {
  const auto chain = chain_of(1, 4);
  const auto other = chain_of(2, 4);
  ScriptedTier& tier = add_model_with(chain);
  put(tier, other);
  tier.refuses = ErrorCode::kResourceExhausted;
  hit(chain);
  EXPECT_EQ(stats().l2_batches, 0U);
  tier.refuses = ErrorCode::kNone;

  start_lookup("o", other);
  reap();

  EXPECT_EQ(result("o"), 4U);
}

TEST_F(EngineTouchTest, ADrainTellsNothingMore) {
  const auto chain = chain_of(1, 4);
  ScriptedTier& tier = add_model_with(chain);
  EXPECT_TRUE(engine().drain(now_ns + kSecond));

  hit(chain);

  EXPECT_EQ(tier.calls_of(Op::kTouch), 0U);
}

TEST_F(EngineTouchTest, AnIntervalIsAboveZeroAndUpToADay) {
  options.touch_interval_ns = 0;
  EXPECT_FALSE(options.validate());
  options.touch_interval_ns = 25 * 3'600 * kSecond;
  EXPECT_FALSE(options.validate());
}

}  // namespace
}  // namespace larder::cache
