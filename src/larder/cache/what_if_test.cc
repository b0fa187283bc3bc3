#include "larder/cache/what_if.h"

#include <string>

#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

constexpr std::size_t kHalf = 0;
constexpr std::size_t kSame = 1;
constexpr std::size_t kDouble = 2;
constexpr std::size_t kUnlimited = 3;

/// 64 cells of L1, and prompts of 10 chunks in turn.
class WhatIfTest : public EngineTierFixture {
 protected:
  static constexpr std::uint32_t kChunks = 10;

  /// Each prompt is looked up, and its missing chunks are stored.
  void ask(std::uint64_t prompts, int rounds) {
    for (int round = 0; round < rounds; ++round) {
      for (std::uint64_t prompt = 0; prompt < prompts; ++prompt) {
        advance_all(1);  // A turn evicts only so much.
        const auto chain = chain_of(prompt, kChunks);
        start_lookup("r", chain);
        reap();
        const std::uint32_t hit = result("r").value_or(0);
        end("r");
        if (hit < kChunks) store_rank(0, chain, {hit, kChunks});
        reap();
      }
    }
  }
};

TEST_F(WhatIfTest, ALargerL1WouldHoldALoop) {
  add_model();
  ask(10, 9);
  EXPECT_FALSE(stats().what_if_l1.points[kDouble].hit_rate) << "900 chunks are too few";
  EXPECT_EQ(stats().what_if_l1.points[kSame].capacity_bytes, 64 * kGrain);
  ask(10, 20);
  const EngineStats now = stats();
  EXPECT_EQ(now.what_if_l1.measured, 0.0);
  EXPECT_NEAR(*now.what_if_l1.points[kSame].hit_rate, 0, 1e-6);
  EXPECT_GT(*now.what_if_l1.points[kDouble].hit_rate, 0.95);
  EXPECT_GT(*now.what_if_l1.points[kUnlimited].hit_rate, 0.95);
  EXPECT_TRUE(now.what_if_l2.is_empty());
}

TEST_F(WhatIfTest, WhatIsMeasuredIsWhatLookupsFound) {
  add_model();
  ask(4, 50);
  const EngineStats now = stats();
  const double found =
      static_cast<double>(now.totals.hit_l1) / static_cast<double>(now.totals.asked);
  EXPECT_NEAR(*now.what_if_l1.measured, found, 0.02);
  EXPECT_NEAR(*now.what_if_l1.points[kSame].hit_rate, *now.what_if_l1.measured, 1e-2);
  // 32 of 40 cells, and the last use of a prompt's head is the latest.
  EXPECT_LT(*now.what_if_l1.points[kHalf].hit_rate, *now.what_if_l1.measured);
}

TEST_F(WhatIfTest, ATierHasAnEstimateOfItsOwn) {
  add_tier().capacity_bytes = 50 * kGrain;
  options.promote = Promote::kRetain;
  add_model();
  ask(9, 40);
  const EngineStats now = stats();
  EXPECT_EQ(now.what_if_l2.points[kSame].capacity_bytes, 50 * kGrain);
  EXPECT_NEAR(*now.what_if_l2.points[kSame].hit_rate, 0, 1e-6);
  EXPECT_GT(*now.what_if_l2.points[kDouble].hit_rate, 0.9);
  // This one never evicts, whatever it says of its capacity.
  EXPECT_GT(*now.what_if_l2.measured, 0.9);
}

TEST_F(WhatIfTest, ATierWithoutABoundHasNone) {
  add_tier().capacity_bytes = 50 * kGrain;
  add_tier();
  add_model();
  EXPECT_TRUE(stats().what_if_l2.is_empty());
  EXPECT_FALSE(stats().what_if_l1.is_empty());
}

TEST_F(WhatIfTest, WhatTheTierHadBeforeLeavesOtherCapacitiesUnknown) {
  ScriptedTier& tier = add_tier();
  tier.capacity_bytes = 5'000 * kGrain;
  add_model();
  for (std::uint64_t prompt = 0; prompt < 120; ++prompt) put(tier, chain_of(prompt, kChunks));
  ask(120, 1);
  const WhatIf told = stats().what_if_l2;
  EXPECT_NEAR(*told.measured, 1.0, 1e-3);
  EXPECT_NEAR(*told.points[kSame].hit_rate, 1.0, 0.02);
  EXPECT_FALSE(told.points[kHalf].hit_rate);
  EXPECT_FALSE(told.points[kDouble].hit_rate);
}

TEST_F(WhatIfTest, WhatIsClearedIsNeverThereWithAnyCapacity) {
  add_model();
  for (int round = 0; round < 30; ++round) {
    ask(5, 1);
    engine().clear({.force = true});
  }
  const WhatIf told = stats().what_if_l1;
  EXPECT_NEAR(*told.points[kUnlimited].hit_rate, 0, 1e-6);
}

TEST_F(WhatIfTest, ADriverMayDoWithout) {
  options.estimates_capacities = false;
  add_model();
  ask(5, 3);
  EXPECT_TRUE(stats().what_if_l1.is_empty());
}

TEST_F(WhatIfTest, AWarmUpIsNoAsk) {
  add_model();
  const auto chain = chain_of(1, kChunks);
  for (int i = 0; i < 5; ++i) {
    LookupSpec spec;
    spec.space = space_;
    spec.chunks = chain;
    spec.lock = false;
    engine().lookup({1, "w"}, spec);
  }
  EXPECT_EQ(stats().what_if_l1.asked, 0);
  look_up("r", chain);
  EXPECT_EQ(stats().what_if_l1.asked, kChunks);
}

}  // namespace
}  // namespace larder::cache
