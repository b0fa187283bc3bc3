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
  /// Answers the first question for a page.
  void give(const std::vector<std::string>& keys, bool is_last, const Error& error = {}) {
    ASSERT_FALSE(heard.pages_wanted.empty());
    const PageWanted wanted = heard.pages_wanted.front();
    heard.pages_wanted.erase(heard.pages_wanted.begin());
    PurgePage page;
    page.keys = keys;
    page.next.words[0] = wanted.from.words[0] + 1;
    page.is_last = is_last;
    page.error = error;
    engine().give_page(wanted, page);
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
  EXPECT_EQ(result_of_purge().deleted[0], 8U);
  EXPECT_EQ(result_of_purge().deleted[1], 8U);
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

TEST_F(EnginePurgeTest, WhatIsStoredMeanwhileReachesTheTierAfterwards) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  clear_all();
  store(chain);  // The same chunks, with new weights.
  reap();
  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 2U);

  give(all_keys(tier), true);
  reap();

  EXPECT_EQ(tier.keys_of(Op::kSet).size(), 4U);
  EXPECT_EQ(tier.sizes.size(), 2U);
}

// ---- Nothing comes back.

TEST_F(EnginePurgeTest, ALookupMeanwhileFindsNothingOfWhatIsToGo) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 4);
  store(chain);
  reap();

  clear_all();
  start_lookup("r", chain);
  reap();
  EXPECT_EQ(result("r"), 0U);
  end("r");
  give(all_keys(tier), true);

  start_lookup("s", chain);
  EXPECT_EQ(result("s"), 0U);
}

TEST_F(EnginePurgeTest, OfANamedPurgeOtherChunksAreStillFound) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto gone = chain_of(1, 2);
  const auto other = chain_of(2, 2);
  put(tier, gone);
  put(tier, other);
  tier.holds = true;
  store(chain_of(9, 1));  // It is waited for.
  purge(gone);
  tier.holds = false;

  start_lookup("r", gone);
  start_lookup("s", other);
  reap();
  EXPECT_EQ(result("r"), 0U);
  EXPECT_EQ(result("s"), 2U);
  tier.finish_all();
  reap();

  EXPECT_EQ(heard.purged.size(), 1U);
  EXPECT_EQ(tier.sizes.size(), 3U);
}

TEST_F(EnginePurgeTest, ALookupThatRunsLoadsNothingOfIt) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  tier.has_probe = false;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);  // It has asked, and is not answered.
  clear_all();
  tier.holds = false;
  tier.finish_all();
  reap();

  EXPECT_EQ(result("r"), 0U);
  EXPECT_EQ(tier.calls_of(Op::kGet), 0U);
}

TEST_F(EnginePurgeTest, ALoadThatRunsArrivesForNobody) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 4);
  put(tier, chain);
  start_lookup("r", chain);
  ASSERT_EQ(tier.calls_of(Op::kGet), 1U);
  clear_all();
  tier.holds = false;
  tier.finish_all();
  reap();
  end("r");
  give(all_keys(tier), true);

  start_lookup("s", chain);
  EXPECT_EQ(result("s"), 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EnginePurgeTest, ALookupThatLosesItsLoadDoesNotLoadAgain) {
  options.promote = Promote::kRetain;
  ScriptedTier& tier = add_tier();
  tier.holds = true;
  add_model();
  const auto chain = chain_of(1, 2);
  put(tier, chain);
  start_lookup("r", chain);
  start_lookup("s", chain);
  ASSERT_EQ(tier.calls_of(Op::kGet), 1U);

  purge(chain);
  EXPECT_EQ(tier.calls_of(Op::kGet), 1U);
  tier.holds = false;
  tier.finish_all();
  reap();

  EXPECT_EQ(heard.purged.size(), 1U);
  EXPECT_EQ(result("s"), 0U);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EnginePurgeTest, WhatALockKeepsLeavesWithItAndIsStoredNowhere) {
  ScriptedTier& tier = add_tier();
  tier.is_down = true;
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  EXPECT_EQ(look_up("r", chain), 2U);
  clear_all();
  give({}, true);
  tier.is_down = false;
  for (int second = 0; second < 3; ++second) advance_all(kSecond);
  EXPECT_EQ(locked_cells(), 2U);
  end("r");

  EXPECT_TRUE(tier.sizes.empty());
  EXPECT_EQ(look_up("s", chain), 0U);
}

TEST_F(EnginePurgeTest, WhatALockKeepsIsFoundByNoLookup) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  EXPECT_EQ(look_up("r", chain), 2U);
  clear_all();
  give(all_keys(tier), true);
  put(tier, chain);  // Another engine has stored them again.

  start_lookup("s", chain);
  reap();
  EXPECT_EQ(result("s"), 0U);
  end("r");
  start_lookup("t", chain);
  reap();
  EXPECT_EQ(result("t"), 2U);
}

TEST_F(EnginePurgeTest, WhatALockHasKeptGoesWithItThoughItIsBeingRead) {
  add_tier();
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  EXPECT_EQ(look_up("r", chain), 2U);
  clear_all();
  ASSERT_TRUE(begin_read(read_spec("r", 0, chain, {0, 2})));
  end("r");

  start_lookup("s", chain);
  EXPECT_EQ(result("s"), 0U);
}

TEST_F(EnginePurgeTest, WhatIsWrittenBesideWhatALockKeepsStays) {
  ScriptedTier& tier = add_tier();
  add_model(1, {0, 1});
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  EXPECT_EQ(look_up("r", chain), 2U);  // The window needs no cell of the first chunk.
  clear_all();
  give(all_keys(tier), true);
  const auto write = begin_write(0, chain, {0, 1});
  ASSERT_EQ(slots.size(), 1U);
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  reap();

  EXPECT_EQ(tier.sizes.size(), 1U);
  end("r");
  EXPECT_EQ(stats().resident_bytes, kGrain);
}

TEST_F(EnginePurgeTest, ACommitAfterTheLockHasGoneStays) {
  ScriptedTier& tier = add_tier();
  add_model(1, {0, 1});
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  EXPECT_EQ(look_up("r", chain), 2U);
  clear_all();
  give(all_keys(tier), true);
  const auto write = begin_write(0, chain, {0, 1});
  end("r");
  EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  reap();

  EXPECT_EQ(tier.sizes.size(), 1U);
  EXPECT_EQ(stats().resident_bytes, kGrain);
}

TEST_F(EnginePurgeTest, ALateCommitBringsNothingBack) {
  ScriptedTier& tier = add_tier();
  add_model();
  const auto chain = chain_of(1, 3);
  const auto expired = begin_write(0, chain, {0, 1});
  advance(options.write_ttl_ns);
  const auto open = begin_write(0, chain, {1, 2});
  const auto other = begin_write(0, chain, {2, 3});

  purge(std::span{chain}.first(2));
  advance(options.write_ttl_ns);  // Open reservations have expired, too.
  for (const auto write : {expired, open, other}) {
    EXPECT_TRUE(engine().end_write(*write, WriteEnd::kPublish));
  }
  reap();

  EXPECT_EQ(heard.purged.size(), 1U);
  EXPECT_EQ(tier.sizes.size(), 1U);
  EXPECT_EQ(look_up("r", std::span{chain}.first(2)), 0U);
}

TEST_F(EnginePurgeTest, CellsOfAnEarlierLayoutGoToo) {
  ScriptedTier& tier = add_tier();
  add_model(1, {0, 0});
  const auto chain = chain_of(1, 1);
  store(chain);
  reap();
  ASSERT_EQ(tier.sizes.size(), 2U);
  engine().drop_owner(owner_, OwnerEnd::kDead);
  engine().drop_layout(layout_);
  ASSERT_TRUE(engine().add_layout(layout_spec(1, {0})));

  purge(chain);
  reap();

  EXPECT_TRUE(tier.sizes.empty());
}

TEST_F(EnginePurgeTest, TheAccountFallsWithNamedColumns) {
  ScriptedTier& tier = add_tier();
  add_model();
  engine().set_quota(SaltId{0}, {.tier_limit_bytes = 2 * kGrain});
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();

  purge(chain);
  reap();
  EXPECT_EQ(engine().account(0, SaltId{0}), 0U);
  store(chain_of(2, 2));
  reap();

  EXPECT_EQ(tier.sizes.size(), 2U);
}

// ---- How it goes.

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

  EXPECT_EQ(result_of_purge().deleted[0], 4U);
  EXPECT_EQ(result_of_purge().deleted[1], 3U);
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
  EXPECT_EQ(result_of_purge().deleted[0], 8U);
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

  EXPECT_EQ(result_of_purge().deleted[0], 2U);
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
  // A late page is ignored.
  ASSERT_EQ(heard.pages_wanted.size(), 1U);
  engine().give_page(heard.pages_wanted.front(), {});
}

TEST_F(EnginePurgeTest, APageOfAnEndedPurgeIsNotTakenByTheNextOfItsTicket) {
  ScriptedTier& tier = add_tier();
  add_model();
  store(chain_of(1, 4));
  reap();
  clear_all(now_ns + kSecond);
  advance(kSecond);
  ASSERT_EQ(heard.purged.size(), 1U);
  clear_all();
  ASSERT_EQ(heard.pages_wanted.size(), 2U);

  engine().give_page(heard.pages_wanted.front(), {});

  EXPECT_EQ(heard.purged.size(), 1U);
  EXPECT_EQ(stats().purges, 1U);
  EXPECT_EQ(tier.sizes.size(), 4U);
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

// ---- Single cells and keys.

TEST_F(EnginePurgeTest, SingleCellsLeaveL1AndLockedOnesOnlyByForce) {
  add_model(2);
  const auto chain = chain_of(1, 2);
  store(chain);
  const std::vector<CellName> cells{{space_, chain[0], 1, 0},
                                    {space_, chain[0], 1, 0},  // Again.
                                    {space_, chain[1], 7, 0},  // No such rank.
                                    {space_, chain[1], 0, 9},  // No such group.
                                    {space_, chain_of(2, 1)[0], 0, 0}};
  EXPECT_EQ(look_up("r", chain), 2U);
  EXPECT_EQ(engine().remove_cells(cells, false).cells_locked, 2U);
  EXPECT_EQ(stats().resident_bytes, 4 * kGrain);
  end("r");

  const ClearResult went = engine().remove_cells(cells, false);
  engine().check_invariants();
  EXPECT_EQ(went.cells, 1U);
  EXPECT_EQ(went.cells_locked, 0U);
  EXPECT_EQ(stats().resident_bytes, 3 * kGrain);

  const std::vector<CellName> last{{space_, chain[1], 0, 0}};
  store(chain);
  EXPECT_EQ(look_up("s", chain), 2U);
  EXPECT_EQ(engine().remove_cells(last, true).cells, 2U);  // With the other rank's.
  engine().check_invariants();
  EXPECT_EQ(stats().resident_bytes, 2 * kGrain);
}

TEST_F(EnginePurgeTest, AReadThatRunsOutlivesTheRemovalOfItsCell) {
  add_model();
  const auto chain = chain_of(1, 1);
  store(chain);
  const auto read = begin_read(read_spec("r", 0, chain, {0, 1}));
  ASSERT_TRUE(read);
  const std::vector<CellName> cells{{space_, chain[0], 0, 0}};
  EXPECT_EQ(engine().remove_cells(cells, true).cells, 1U);
  engine().check_invariants();
  EXPECT_EQ(stats().orphan_bytes, kGrain);  // E2.
  engine().end_read(*read);
  EXPECT_EQ(stats().free_bytes, stats().capacity_bytes);
}

TEST_F(EnginePurgeTest, KeysGoFromTheTiersThatAreNamedAndStayInL1) {
  ScriptedTier& first = add_tier();
  ScriptedTier& second = add_tier();
  add_model();
  const auto chain = chain_of(1, 2);
  store(chain);
  reap();
  first.sizes["a stranger"] = 1;
  std::vector<TierKey> keys{{.name = key_of(chain[0]), .cell = CellName{space_, chain[0], 0, 0}},
                            {.name = "a stranger"},
                            {.name = "absent"}};
  engine().purge_keys(kPurge, keys, bit_of(0), kNever);
  reap();
  EXPECT_EQ(first.sizes.size(), 1U);
  EXPECT_EQ(second.sizes.size(), 2U);
  EXPECT_EQ(result_of_purge().deleted[0], 2U);
  EXPECT_EQ(result_of_purge().deleted[1], 0U);
  EXPECT_EQ(result_of_purge().tiers_skipped, 0U);
  EXPECT_EQ(look_up("r", chain), 2U);  // In L1.
}

TEST_F(EnginePurgeTest, ADeletedKeyIsNotStoredFromL1Afterwards) {
  ScriptedTier& tier = add_tier();
  tier.is_down = true;
  add_model();
  const auto chain = chain_of(1, 1);
  store(chain);
  reap();
  ASSERT_EQ(stats().cells_wanted, 1U);
  const std::vector<TierKey> keys{{.name = "k", .cell = CellName{space_, chain[0], 0, 0}}};
  engine().purge_keys(kPurge, keys, bit_of(0), kNever);
  engine().check_invariants();
  EXPECT_EQ(stats().cells_wanted, 0U);
}

}  // namespace
}  // namespace larder::cache
