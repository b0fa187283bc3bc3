// Lookups whose first chunks the serving engine has itself (LookupSpec::begin): E7, E10, E20, E23.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

class EngineBeginTest : public EngineTierFixture {
 protected:
  void start_from(std::string_view request, std::span<const ChunkHash> chain, std::uint32_t begin,
                  std::uint32_t readers = 1) {
    engine().lookup({1, request},
                    {.space = space_, .chunks = chain, .begin = begin, .readers = readers});
    engine().check_invariants();
  }
  std::uint32_t look_up_from(std::string_view request, std::span<const ChunkHash> chain,
                             std::uint32_t begin, std::uint32_t readers = 1) {
    start_from(request, chain, begin, readers);
    return result(request).value_or(kNone);
  }
  bool is_in_l1(const ChunkHash& chunk) { return engine().find(space_, chunk).has_value(); }
};

// ---- The hit.

// LMCache 0.5.7 answers so: three chunks of four are cached, the engine says that it has 1, 4, 3.
TEST_F(EngineBeginTest, TheHitIsCountedFromTheFirstChunkOfTheRequest) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(std::span{chain}.first(3));

  EXPECT_EQ(look_up_from("a", chain, 1), 3U);
  EXPECT_EQ(locked_cells(), 2U);
  end("a");
  EXPECT_EQ(look_up_from("b", chain, 4), 4U);
  EXPECT_EQ(look_up_from("c", chain, 3), 3U);
  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineBeginTest, WhatIsBelowTheBeginNeedNotBeThere) {
  add_model();
  const auto chain = chain_of(1, 6);
  store_rank(0, chain, {3, 5});

  EXPECT_EQ(look_up_from("a", chain, 0), 0U);
  EXPECT_EQ(look_up_from("b", chain, 2), 2U);
  EXPECT_EQ(look_up_from("c", chain, 3), 5U);
}

TEST_F(EngineBeginTest, ABeginBehindTheLastChunkIsTheRequestsEnd) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);

  EXPECT_EQ(look_up_from("r", chain, 9), 4U);
  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineBeginTest, AWaitIsAnsweredWithTheSameNumber) {
  add_tier().holds = true;
  scripted[0]->has_probe = false;
  add_model();
  const auto chain = chain_of(1, 4);
  put(*scripted[0], std::span{chain}.first(3));
  start_from("r", chain, 1);
  engine().wait_result(Ticket{5}, {1, "r"}, now_ns + kSecond);

  scripted[0]->holds = false;
  scripted[0]->finish_all();
  reap();

  ASSERT_EQ(heard.results.size(), 1U);
  EXPECT_EQ(heard.results[0].hit, 3U);
}

TEST_F(EngineBeginTest, AWindowIsOneOfTheChunksFromTheBeginOn) {
  add_model(1, {0, 2});
  const auto chain = chain_of(1, 5);
  store_rank(0, chain, {2, 5});

  EXPECT_EQ(look_up_from("a", std::span{chain}.first(3), 2), 3U);
  EXPECT_EQ(locked_cells(), 1U + 1U);
  end("a");
  EXPECT_EQ(look_up_from("b", chain, 2), 5U);
  EXPECT_EQ(locked_cells(), 3U + 2U);
}

TEST_F(EngineBeginTest, OnlyChunksFromTheBeginOnAreCounted) {
  add_tier({.store = false});
  add_model();
  const auto chain = chain_of(1, 8);
  store(std::span{chain}.first(4));
  put(*scripted[0], std::span{chain}.first(6));
  start_from("r", chain, 2);
  reap();
  EXPECT_EQ(result("r"), 6U);
  look_up_from("none", chain, 8);

  const EngineTotals totals = stats().totals;
  EXPECT_EQ(totals.lookups, 2U);
  EXPECT_EQ(totals.asked, 6U);
  EXPECT_EQ(totals.hit_l1, 2U);
  EXPECT_EQ(totals.hit_l2, 2U);
  EXPECT_EQ(totals.missed[static_cast<std::size_t>(Miss::kNeverStored)], 2U);
}

// ---- L2.

TEST_F(EngineBeginTest, TiersAreAskedAndLoadedFromTheBeginOn) {
  ScriptedTier& tier = add_tier();
  tier.has_probe = false;
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);

  start_from("r", chain, 4);
  reap();

  EXPECT_EQ(result("r"), 6U);
  const std::vector<std::string> above{key_of(chain[4]), key_of(chain[5])};
  EXPECT_EQ(tier.keys_of(Op::kExists), above);
  EXPECT_EQ(tier.keys_of(Op::kGet), above);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineBeginTest, WhatTheEngineHasWholeIsNotAskedOfATier) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);

  EXPECT_EQ(look_up_from("r", chain, 4), 4U);
  EXPECT_EQ(tier.probes, 0);
}

TEST_F(EngineBeginTest, TheHitEndsBeforeALoadThatFails) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 6);
  put(tier, chain);
  tier.failing.insert(key_of(chain[4]));

  start_from("r", chain, 2);
  reap();

  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineBeginTest, AtTheDeadlineTheAnswerIsTheBeginAndWhatIsThere) {
  const auto chain = chain_of(1, 6);
  add_model_over_holding_tier(chain);
  start_from("r", chain, 2);
  EXPECT_EQ(result("r"), std::nullopt);

  advance_all(options.load_timeout_ns);

  EXPECT_EQ(result("r"), 2U);
}

TEST_F(EngineBeginTest, APromotedHitKeepsOnlyItsOwnChunks) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);

  start_from("r", chain, 1);
  reap();

  EXPECT_EQ(result("r"), 4U);
  EXPECT_EQ(stats().totals.cells_promoted, 3U);
}

// ---- Shares.

TEST_F(EngineBeginTest, RangesOfAReleaseAreTheRequests) {
  add_model();
  const auto chain = chain_of(1, 6);
  store(chain);
  ASSERT_EQ(look_up_from("r", chain, 2), 6U);
  EXPECT_EQ(locked_cells(), 4U);

  release("r", {0, 2});
  EXPECT_EQ(locked_cells(), 4U);
  EXPECT_EQ(stats().totals.second_releases, 0U);
  release("r", {0, 3});
  EXPECT_EQ(locked_cells(), 3U);
  release("r", {5, 6});
  EXPECT_EQ(locked_cells(), 2U);
  release("r", {3, 100});
  EXPECT_EQ(locked_cells(), 0U);
}

TEST_F(EngineBeginTest, AFreeDuringTheLookupMeansTheRequestsChunks) {
  const auto chain = chain_of(1, 6);
  ScriptedTier& tier = add_model_over_holding_tier(chain);
  start_from("r", chain, 2);
  release("r", {0, 4});

  tier.holds = false;
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 6U);
  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineBeginTest, AReadGivesBackWhatItHasAboveTheBegin) {
  add_model();
  const auto chain = chain_of(1, 6);
  store(chain);
  ASSERT_EQ(look_up_from("r", chain, 2, 2), 6U);

  for (int times = 0; times < 2; ++times) {  // The second one is the same instance's.
    const auto read = begin_read(read_spec("r", 0, chain, {0, 4}));
    ASSERT_TRUE(read);
    EXPECT_EQ(slots.size(), 4U);
    engine().end_read(*read);
  }
  release("r", {2, 4});
  EXPECT_EQ(locked_cells(), 2U);
  EXPECT_EQ(stats().totals.second_releases, 1U);
}

TEST_F(EngineBeginTest, AReadBelowTheBeginGivesNothingBack) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  ASSERT_EQ(look_up_from("r", chain, 2), 4U);

  const auto read = begin_read(read_spec("r", 0, chain, {0, 2}));
  ASSERT_TRUE(read);
  engine().end_read(*read);

  EXPECT_EQ(locked_cells(), 2U);
}

TEST_F(EngineBeginTest, EndGivesEverythingBack) {
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  ASSERT_EQ(look_up_from("r", chain, 2), 4U);

  end("r");

  EXPECT_EQ(locked_cells(), 0U);
}

// ---- What is below the begin is used.

TEST_F(EngineBeginTest, ChunksBelowTheBeginAreUsedBehindTheirTail) {
  capacity_cells = 8;
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  store(chain_of(2, 4));

  ASSERT_EQ(look_up_from("r", chain, 2), 4U);
  end("r");
  fill_with_others(5);

  EXPECT_TRUE(is_in_l1(chain[0]));  // The other prompt has gone, and so has this one's tail.
  EXPECT_TRUE(is_in_l1(chain[2]));
  EXPECT_FALSE(is_in_l1(chain[3]));
}

TEST_F(EngineBeginTest, ALookupThatLoadsUsesThemWhenItIsAnswered) {
  capacity_cells = 8;
  ScriptedTier& tier = add_tier({.store = false});
  options.promote = Promote::kRetain;
  add_model();
  const auto chain = chain_of(1, 3);
  store(std::span{chain}.first(2));
  store(chain_of(2, 5));
  put(tier, chain);

  start_from("r", chain, 2);
  reap();
  ASSERT_EQ(result("r"), 3U);
  end("r");
  fill_with_others(5);  // In the place of the other prompt.

  EXPECT_TRUE(is_in_l1(chain[0]));
  EXPECT_TRUE(is_in_l1(chain[1]));
}

TEST_F(EngineBeginTest, AUseBelowTheBeginIsNoHit) {
  ScriptedTier& tier = add_tier({.min_hits = 1});
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);

  ASSERT_EQ(look_up_from("r", chain, 2), 4U);
  reap();

  const std::vector<std::string> above{key_of(chain[2]), key_of(chain[3])};
  std::vector<std::string> stored = tier.keys_of(Op::kSet);
  std::ranges::sort(stored);
  EXPECT_EQ(stored, above);
}

}  // namespace
}  // namespace larder::cache
