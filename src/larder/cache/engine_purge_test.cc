// Deletes in the tiers: E36.
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

constexpr Ticket kPurge{7};

class EnginePurgeTest : public EngineTierFixture {
 protected:
  void clear_all(std::uint64_t deadline_ns = kNever) {
    ClearSpec spec;
    spec.scope = ClearScope::kAll;
    spec.ticket = kPurge;
    spec.deadline_ns = deadline_ns;
    engine().clear(spec);
    engine().check_invariants();
  }
  void purge(std::span<const ChunkHash> chunks, std::uint64_t deadline_ns = kNever) {
    engine().purge(kPurge, space_, chunks, deadline_ns);
    engine().check_invariants();
  }
  /// Answers the question for a page that stands first.
  void give(const std::vector<std::string>& keys, bool is_last, const Error& error = {}) {
    ASSERT_FALSE(heard.pages_wanted.empty());
    const Heard::PageWanted wanted = heard.pages_wanted.front();
    heard.pages_wanted.erase(heard.pages_wanted.begin());
    PurgePage page;
    page.keys = keys;
    page.next.words[0] = wanted.from.words[0] + 1;
    page.is_last = is_last;
    page.error = error;
    engine().give_page(wanted.purge, wanted.tier, page);
    reap();
  }
  static std::vector<std::string> all_keys(const ScriptedTier& tier) {
    std::vector<std::string> keys;
    for (const auto& [key, bytes] : tier.sizes) keys.push_back(key);
    return keys;
  }
  const PurgeResult& result_of_purge() {
    EXPECT_EQ(heard.purged.size(), 1U);
    if (heard.purged.empty()) heard.purged.emplace_back();
    return heard.purged.front().second;
  }
};

TEST_F(EnginePurgeTest, AClearOfAllScopesEmptiesEveryTierPageByPage) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model(2);
  store(chain_of(1, 4));
  reap();
  ASSERT_EQ(first.sizes.size(), 8U);

  clear_all();
  ASSERT_EQ(heard.pages_wanted.size(), 2U);  // The tiers are looked through side by side.
  const auto keys = all_keys(first);
  give({keys.begin(), keys.begin() + 3}, false);
  EXPECT_EQ(first.sizes.size(), 5U);
  give(keys, true);  // Of the second tier.
  ASSERT_EQ(heard.pages_wanted.size(), 1U);
  EXPECT_EQ(heard.pages_wanted.front().from.words[0], 1U);
  EXPECT_TRUE(heard.purged.empty());
  give({keys.begin() + 3, keys.end()}, true);

  EXPECT_TRUE(first.sizes.empty());
  EXPECT_TRUE(second.sizes.empty());
  EXPECT_EQ(result_of_purge().keys_deleted, 16U);
  EXPECT_EQ(result_of_purge().tiers_skipped, 0U);
  start_lookup("r", chain_of(1, 4));
  EXPECT_EQ(result("r"), 0U);
}

TEST_F(EnginePurgeTest, AStoreThatRunsIsWaitedFor) {
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  store(chain_of(1, 2));
  ASSERT_EQ(tier.held.size(), 1U);

  clear_all();
  EXPECT_TRUE(heard.pages_wanted.empty());
  tier.finish_all();
  reap();

  ASSERT_EQ(heard.pages_wanted.size(), 1U);
  EXPECT_EQ(tier.sizes.size(), 2U);
  tier.holds = false;
  give(all_keys(tier), true);
  EXPECT_TRUE(tier.sizes.empty());
}

TEST_F(EnginePurgeTest, WhatIsStoredMeanwhileIsNotWaitedFor) {
  ScriptedTier& tier = add_tier();
  add_model();
  clear_all();
  tier.holds = true;
  store(chain_of(1, 1));

  give({}, true);

  EXPECT_EQ(heard.purged.size(), 1U);
  EXPECT_EQ(tier.held.size(), 1U);
}

TEST_F(EnginePurgeTest, ColumnsLeaveL1AndEveryTierInAllTheirCells) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model(2, {0, 2});
  const auto chain = chain_of(1, 4);
  store(chain);
  reap();
  second.sizes.erase(key_of(chain[1], 1, 1));

  purge(std::span{chain}.subspan(1, 1));
  reap();

  EXPECT_EQ(result_of_purge().keys_deleted, 7U);
  EXPECT_EQ(result_of_purge().keys_failed, 0U);
  EXPECT_EQ(first.sizes.size(), 12U);
  EXPECT_EQ(second.sizes.size(), 12U);
  EXPECT_TRUE(heard.pages_wanted.empty());
  start_lookup("r", chain);
  EXPECT_EQ(result("r"), 1U);
}

TEST_F(EnginePurgeTest, DeletesAreSentInPieces) {
  options.exists_keys_max = 3;
  ScriptedTier& tier = add_tier();
  add_model();
  store(chain_of(1, 8));
  reap();

  purge(chain_of(1, 8));
  reap();

  EXPECT_EQ(tier.calls_of(Op::kDelete), 3U);
  EXPECT_EQ(result_of_purge().keys_deleted, 8U);
}

TEST_F(EnginePurgeTest, AKeyThatFailsIsCountedAndTheOthersGo) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 3);
  store(chain);
  reap();
  tier.failing_deletes.insert(key_of(chain[1]));

  purge(chain);
  reap();

  EXPECT_EQ(result_of_purge().keys_deleted, 2U);
  EXPECT_EQ(result_of_purge().keys_failed, 1U);
  EXPECT_EQ(result_of_purge().error.code(), ErrorCode::kIo);
  EXPECT_EQ(result_of_purge().tiers_skipped, 0U);
}

TEST_F(EnginePurgeTest, ATierThatIsDownIsNamedAndTheOthersArePurged) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model();
  store(chain_of(1, 3));
  reap();
  first.is_down = true;

  purge(chain_of(1, 3));
  reap();

  EXPECT_EQ(result_of_purge().tiers_skipped, bit_of(0));
  EXPECT_EQ(result_of_purge().error.code(), ErrorCode::kUnavailable);
  EXPECT_EQ(first.sizes.size(), 3U);
  EXPECT_TRUE(second.sizes.empty());
}

TEST_F(EnginePurgeTest, ATierThatCannotBeScannedIsNamed) {
  add_tier();
  add_model();
  clear_all();

  give({}, true, Error{ErrorCode::kUnimplemented, "test", "no scan"});

  EXPECT_EQ(result_of_purge().tiers_skipped, bit_of(0));
  EXPECT_EQ(result_of_purge().error.code(), ErrorCode::kUnimplemented);
}

TEST_F(EnginePurgeTest, AtItsDeadlineItEndsWithWhatWasDone) {
  ScriptedTier& tier = add_tier();
  add_model();
  store(chain_of(1, 3));
  reap();
  tier.holds = true;
  purge(chain_of(1, 3), now_ns + kSecond);
  ClearSpec second;
  second.scope = ClearScope::kAll;
  second.ticket = Ticket{8};
  second.deadline_ns = now_ns + kSecond;
  engine().clear(second);  // It waits for its first page.
  advance(kSecond);
  reap();

  ASSERT_EQ(heard.purged.size(), 2U);
  for (const auto& [ticket, result] : heard.purged) {
    EXPECT_EQ(result.tiers_skipped, bit_of(0));
  }
  EXPECT_EQ(stats().purges, 0U);
  // A page that comes too late is for nobody.
  engine().give_page(Ticket{8}, 0, {});
}

TEST_F(EnginePurgeTest, ADrainEndsIt) {
  add_tier();
  add_model();
  clear_all();

  EXPECT_TRUE(engine().drain(now_ns + kSecond));

  EXPECT_EQ(result_of_purge().error.code(), ErrorCode::kCancelled);
}

TEST_F(EnginePurgeTest, WithoutTiersItEndsAtOnce) {
  add_model();
  store(chain_of(1, 3));
  clear_all();
  EXPECT_EQ(result_of_purge().tiers_skipped, 0U);
  EXPECT_EQ(look_up("r", chain_of(1, 3)), 0U);
}

}  // namespace
}  // namespace larder::cache
