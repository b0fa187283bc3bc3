#include "larder/tools/l1_replay.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/scripted_tier_test_support.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/lru_model.h"
#include "larder/tools/trace_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;
constexpr std::uint64_t kBlockBytes = 4096;  // A grain of the arena.

std::vector<TraceRequest> make_trace(std::size_t requests, std::uint64_t seed) {
  return make_conversations(12, requests, seed);
}

L1ReplayOptions options_for(std::uint64_t columns) {
  L1ReplayOptions options;
  options.trace_path = "test";
  options.block_bytes = kBlockBytes;
  options.l1_bytes = columns * kBlockBytes;
  options.is_quiet = true;
  return options;
}

std::unique_ptr<Connector> open(std::string_view spec) {
  auto connector = builtin_registry().open(spec);
  EXPECT_TRUE(connector) << connector.error().text;
  return connector ? std::move(*connector) : nullptr;
}

L1ReplayResult replay_over(const L1ReplayOptions& options, const std::vector<TraceRequest>& trace,
                           const std::vector<Connector*>& tiers = {}) {
  auto result = replay_l1(options, trace, tiers, kNoStop);
  EXPECT_TRUE(result) << result.error().text;
  if (!result) return {};
  // I10: every block that was asked for is a hit of one tier, or has one reason.
  std::uint64_t missed = 0;
  for (const std::uint64_t count : result->stats.totals.missed) missed += count;
  EXPECT_EQ(result->total.blocks, result->hit().blocks + missed);
  EXPECT_EQ(result->stats.totals.asked, result->total.blocks);
  return std::move(*result);
}

std::vector<RequestHits> hits_of_model(const std::vector<TraceRequest>& trace,
                                       std::uint64_t columns, LruOrder order) {
  LruModel model{columns, order};
  std::vector<RequestHits> hits;
  for (const TraceRequest& request : trace) {
    hits.push_back({static_cast<std::uint32_t>(model.request(request.blocks)), 0});
  }
  return hits;
}

/// Of every request, not only their sum.
void expect_exact_lru(const L1ReplayOptions& options, const std::vector<TraceRequest>& trace,
                      LruOrder order) {
  const L1ReplayResult result = replay_over(options, trace);
  const auto expected = hits_of_model(trace, result.columns_max, order);
  ASSERT_EQ(result.requests.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(result.requests[i], expected[i]) << "request " << i;
  }
  EXPECT_EQ(result.stats.totals.writes_refused + result.stats.totals.writes_cut, 0U);
}

TEST(L1ReplayTest, LruHitsBlockForBlockWhatAnExactLruHits) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const auto trace = make_trace(600, seed);
    for (const std::uint64_t columns : {64U, 100U, 300U, 5000U}) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", columns " + std::to_string(columns));
      expect_exact_lru(options_for(columns), trace, LruOrder::kHitsThenStores);
    }
  }
}

TEST(L1ReplayTest, WithoutMemoryTheHitsAreTheSame) {
  const auto trace = make_trace(300, 20);
  L1ReplayOptions options = options_for(100);
  const L1ReplayResult with_bytes = replay_over(options, trace);
  options.sizes_only = true;
  EXPECT_EQ(replay_over(options, trace).requests, with_bytes.requests);
}

TEST(L1ReplayTest, EightRanksHitWhatOneHits) {
  const auto trace = make_trace(500, 30);
  for (const std::uint64_t columns : {64U, 150U, 5000U}) {
    L1ReplayOptions one = options_for(columns);
    one.block_bytes = 8 * kBlockBytes;
    one.l1_bytes = columns * one.block_bytes;
    L1ReplayOptions eight = one;
    eight.ranks = 8;
    const L1ReplayResult of_one = replay_over(one, trace);
    const L1ReplayResult of_eight = replay_over(eight, trace);
    EXPECT_EQ(of_eight.columns_max, columns);
    EXPECT_EQ(of_eight.requests, of_one.requests) << columns;
    EXPECT_EQ(of_eight.bytes_read, of_one.bytes_read);
    EXPECT_EQ(of_eight.stats.totals.cells_stored, 8 * of_one.stats.totals.cells_stored);
  }
}

TEST(L1ReplayTest, WhatL1EvictedIsHitInL2) {
  const auto trace = make_trace(400, 40);
  const auto everything = hits_of_model(trace, LruModel::kUnbounded, LruOrder::kLastToFirst);
  for (const std::uint32_t ranks : {1U, 2U}) {
    const auto l2 = open("memory:?capacity=1GiB");
    L1ReplayOptions options = options_for(200);
    options.block_bytes = ranks * kBlockBytes;
    options.l1_bytes = 200 * options.block_bytes;
    options.ranks = ranks;
    const L1ReplayResult result = replay_over(options, trace, {l2.get()});
    EXPECT_TRUE(result.is_good());
    ASSERT_EQ(result.requests.size(), everything.size());
    for (std::size_t i = 0; i < everything.size(); ++i) {
      ASSERT_EQ(result.requests[i].l1 + result.requests[i].l2, everything[i].l1) << i;
    }
    EXPECT_GT(result.hit_l1.blocks, 0U);
    EXPECT_GT(result.hit_l2.blocks, 0U);
    EXPECT_EQ(result.hit().tokens, result.model_unbounded.tokens);
    const TierCounts& tier = result.tiers.front();
    // Some hits of L2 are in L1, behind a block that is not.
    EXPECT_GT(tier.values_loaded, 0U);
    EXPECT_LE(tier.values_loaded, result.hit_l2.blocks * ranks);
    EXPECT_EQ(tier.bytes_loaded, tier.values_loaded * kBlockBytes);
    EXPECT_EQ(tier.values_stored, result.tier_reports.front().keys);
    EXPECT_EQ(result.stats.totals.l2_store_lost, 0U);
    EXPECT_EQ(result.stats.cells_wanted, 0U);
    EXPECT_TRUE(l2->stop(kNever));
  }
}

TEST(L1ReplayTest, TheNextReplayFindsWhatThisOneStored) {
  const auto trace = make_trace(100, 50);
  const auto l2 = open("memory:?capacity=1GiB");
  replay_over(options_for(200), trace, {l2.get()});
  const L1ReplayResult again = replay_over(options_for(200), trace, {l2.get()});
  EXPECT_GT(again.keys_at_start, 0U);
  EXPECT_EQ(again.hit().blocks, again.total.blocks);
  // A replay without L1 has the same keys and the same bytes.
  ReplayOptions plain;
  plain.block_bytes = kBlockBytes;
  plain.is_quiet = true;
  const auto without_l1 = replay(plain, trace, *l2, kNoStop);
  ASSERT_TRUE(without_l1);
  EXPECT_EQ(without_l1->hit.blocks, without_l1->total.blocks);
  EXPECT_TRUE(without_l1->is_good());
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, TheFirstTierThatHasABlockServesIt) {
  const auto trace = make_trace(300, 60);
  const auto first = open("memory:?capacity=256KiB");
  const auto second = open("memory:?capacity=1GiB");
  const L1ReplayOptions options = options_for(64);
  const L1ReplayResult result = replay_over(options, trace, {first.get(), second.get()});
  EXPECT_EQ(result.hit().blocks, result.model_unbounded.blocks);
  EXPECT_GT(result.tiers[0].values_loaded, 0U);
  EXPECT_GT(result.tiers[1].values_loaded, 0U);
  EXPECT_LE(result.tiers[0].values_loaded + result.tiers[1].values_loaded, result.hit_l2.blocks);
  const std::string text = to_text(options, result);
  EXPECT_NE(text.find("L2 1 memory"), std::string::npos) << text;
  EXPECT_NE(text.find("L2 2 memory"), std::string::npos) << text;
  EXPECT_TRUE(first->stop(kNever) && second->stop(kNever));
}

TEST(L1ReplayTest, AChainMayNameABlockTwiceOrHaveNone) {
  std::vector<TraceRequest> trace = make_trace(200, 65);
  Random random{66};
  for (TraceRequest& request : trace) {
    auto& chain = request.blocks;
    for (std::uint64_t& block : chain) block = random.below(4) == 0 ? chain.front() : block % 90;
    if (random.below(10) == 0) chain.clear();
  }
  const auto l2 = open("memory:?capacity=1GiB");
  const L1ReplayResult alone = replay_over(options_for(64), trace);
  const L1ReplayResult before_l2 = replay_over(options_for(64), trace, {l2.get()});
  EXPECT_EQ(before_l2.hit().blocks, before_l2.model_unbounded.blocks);
  EXPECT_GT(alone.hit().blocks, 0U);
  EXPECT_LT(alone.hit().blocks, before_l2.hit().blocks);
  EXPECT_TRUE(alone.is_good() && before_l2.is_good());
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, WrongBytesOfL2EndTheRun) {
  const auto trace = make_trace(400, 70);
  const auto l2 = open(R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},)"
                       R"("corrupt_rate":1})");
  const L1ReplayOptions options = options_for(64);
  const auto result = replay_l1(options, trace, {l2.get()}, kNoStop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->interrupted_by, "a hit with wrong bytes");
  EXPECT_GT(result->mismatches, 0U);
  EXPECT_FALSE(result->is_good());
  EXPECT_LT(result->requests.size(), trace.size());
  EXPECT_NE(result->first_mismatch.find("key \"replay/4KiB/"), std::string::npos)
      << result->first_mismatch;
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, LoadsThatFailAreMissesWithAReason) {
  const auto trace = make_trace(300, 80);
  const auto l2 = open(R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},)"
                       R"("error_rate":1,"pattern":"get:*"})");
  const L1ReplayOptions options = options_for(64);
  const L1ReplayResult result = replay_over(options, trace, {l2.get()});
  EXPECT_EQ(result.hit_l2.blocks, 0U);
  EXPECT_FALSE(result.is_good());
  EXPECT_FALSE(result.tiers.front().load_failures.empty());
  EXPECT_GT(result.stats.totals.missed[static_cast<std::size_t>(cache::Miss::kFailed)], 0U);
  EXPECT_NE(to_text(options, result).find("FAILED: "), std::string::npos);
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, StoresThatFailAreCountedAndCostNoHitOfL1) {
  const auto trace = make_trace(200, 85);
  const auto l2 = open(R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},)"
                       R"("error_rate":1,"pattern":"set:*"})");
  const L1ReplayOptions options = options_for(100);
  const L1ReplayResult result = replay_over(options, trace, {l2.get()});
  EXPECT_EQ(result.requests, replay_over(options, trace).requests);
  EXPECT_FALSE(result.is_good());
  const cache::EngineTotals& totals = result.stats.totals;
  EXPECT_GT(totals.l2_store_failed, 0U);
  EXPECT_EQ(totals.l2_store_failed + totals.l2_store_lost + result.stats.cells_wanted,
            totals.cells_stored);
  EXPECT_NE(to_text(options, result).find("given up: L2 failed to store them"), std::string::npos);
  EXPECT_TRUE(l2->stop(kNever));
}

// It answers in a later call, as real connectors do.
TEST(L1ReplayTest, ATierThatTakesNothingIsNotWaitedForForEver) {
  const auto trace = make_trace(60, 88);
  cache::ScriptedTier l2;
  l2.is_down = true;
  const L1ReplayOptions options = options_for(100);
  const L1ReplayResult result = replay_over(options, trace, {&l2});
  EXPECT_EQ(result.requests.size(), trace.size());
  const cache::EngineTotals& totals = result.stats.totals;
  EXPECT_EQ(totals.l2_store_done, 0U);
  EXPECT_EQ(totals.l2_store_lost + result.stats.cells_wanted, totals.cells_stored);
  EXPECT_FALSE(result.is_good());
}

TEST(L1ReplayTest, AnL1ThatTheMachineDoesNotHaveIsRefusedWithTheRemedy) {
  L1ReplayOptions options = options_for(100);
  options.l1_bytes = std::uint64_t{1} << 50;
  const auto refused = options.validate();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("--sizes-only"), std::string::npos) << refused.error().text;
}

TEST(L1ReplayTest, WithoutBytesL1MayBeOfAnySize) {
  L1ReplayOptions options = options_for(100);
  options.sizes_only = true;
  options.block_bytes = 64 << 10;
  options.l1_bytes = std::uint64_t{20} << 40;
  EXPECT_GT(replay_over(options, make_trace(50, 90)).columns_max, 300'000'000U);
}

TEST(L1ReplayTest, BehindItsTimeWhatL1EvictsIsLostToL2) {
  const auto trace = make_trace(400, 95);
  const auto l2 = open(R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},)"
                       R"("delay_rate":1,"delay":"200ms","pattern":"set:*"})");
  L1ReplayOptions options = options_for(64);
  options.speed = 1e9;  // All requests are due at once, and none waits for L2.
  const L1ReplayResult result = replay_over(options, trace, {l2.get()});
  const cache::EngineTotals& totals = result.stats.totals;
  EXPECT_GT(totals.l2_store_lost, 0U);
  EXPECT_EQ(result.tiers.front().values_stored + totals.l2_store_lost, totals.cells_stored);
  EXPECT_TRUE(result.is_good());
  EXPECT_NE(to_text(options, result).find("lost to L2"), std::string::npos);
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, AStopEndsItWithWhatWasMeasured) {
  const std::atomic<bool> stop = true;
  const auto l2 = open("memory:?capacity=1GiB");
  const auto result = replay_l1(options_for(100), make_trace(50, 90), {l2.get()}, stop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->interrupted_by, "a signal");
  EXPECT_EQ(result->requests.size(), 0U);
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, TheReportSaysWhatHappened) {
  const auto trace = make_trace(400, 100);
  const auto l2 = open("memory:?capacity=1GiB");
  const L1ReplayOptions options = options_for(100);
  const L1ReplayResult result = replay_over(options, trace, {l2.get()});
  const std::string text = to_text(options, result);
  for (const char* const part : {"replay of test through L1, 400KiB, L2 memory", "400 requests",
                                 "L1 holds 100 blocks", "policy LRU", "exact LRU of 100 blocks",
                                 "a cache without a bound", "not hit, by reason: ", "never_stored ",
                                 "evicted from L1", "every byte verified", "s of prefill"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const auto json = nlohmann::json::parse(to_json(options, result));
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["hit"]["blocks"], result.hit().blocks);
  EXPECT_EQ(json["l1"]["hit"]["blocks"].get<std::uint64_t>() +
                json["l2"]["hit"]["blocks"].get<std::uint64_t>(),
            result.hit().blocks);
  EXPECT_EQ(json["l1"]["blocks_evicted"], result.stats.totals.columns_evicted);
  EXPECT_EQ(json["misses_by_reason"]["never_stored"],
            result.stats.totals.missed[static_cast<std::size_t>(cache::Miss::kNeverStored)]);
  EXPECT_EQ(json["l2"]["tiers"][0]["connector"], "memory");
  EXPECT_TRUE(l2->stop(kNever));
}

TEST(L1ReplayTest, WhatCannotBeReplayedIsRefused) {
  const auto refused = [](const L1ReplayOptions& options) {
    const auto result = replay_l1(options, make_trace(5, 1), {}, kNoStop);
    return result ? std::string{} : result.error().text;
  };
  L1ReplayOptions options = options_for(100);
  options.ranks = 3;
  EXPECT_NE(refused(options).find("expected a multiple of --ranks"), std::string::npos);
  options = options_for(100);
  options.block_bytes = options.l1_bytes + kBlockBytes;
  EXPECT_NE(refused(options).find("expected room for one block"), std::string::npos);
  options = options_for(100);
  options.policy = "lur";
  EXPECT_NE(refused(options).find("did you mean"), std::string::npos);
  options = options_for(100);
  options.sizes_only = true;
  options.specs = {"memory:?capacity=1GiB"};
  EXPECT_NE(refused(options).find("leave SPEC out"), std::string::npos);
  // A block that L2 would not take.
  const auto small = open("memory:?capacity=1MiB&max_value=4KiB");
  options = options_for(100);
  options.block_bytes = 2 * kBlockBytes;
  const auto result = replay_l1(options, make_trace(5, 1), {small.get()}, kNoStop);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text.find("above the connector's largest value"), std::string::npos);
  EXPECT_TRUE(small->stop(kNever));
}

TEST(L1ReplayTest, AStoreWithOthersKeysIsRefused) {
  const testing::TemporaryDirectory directory;
  const std::string spec = "fs:" + directory.path() + "/kv";
  ReplayOptions others;
  others.key_prefix = "mine/";
  others.block_bytes = kBlockBytes;
  others.is_quiet = true;
  const auto store = open(spec);
  ASSERT_TRUE(replay(others, make_trace(5, 1), *store, kNoStop));
  ASSERT_TRUE(store->stop(kNever));
  L1ReplayOptions options = options_for(100);
  options.specs = {spec};
  options.trace_path = LARDER_SOURCE_DIR "/bench/data/mooncake_conversation_trace.jsonl.zst";
  options.requests_max = 5;
  const auto refused = replay_l1(options, kNoStop);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("a replay"), std::string::npos) << refused.error().text;
  options.allow_eviction = true;
  const auto allowed = replay_l1(options, kNoStop);
  ASSERT_TRUE(allowed) << allowed.error().text;
  EXPECT_EQ(allowed->requests.size(), 5U);
}

// ---- Real traces.

std::vector<TraceRequest> read(const std::string& path, std::uint64_t requests_max = kNever) {
  auto trace = read_trace({.trace_path = path, .requests_max = requests_max}, kNoStop);
  EXPECT_TRUE(trace) << trace.error().text;
  return trace ? std::move(trace->requests) : std::vector<TraceRequest>{};
}

std::vector<TraceRequest> conversation() {
  return read(LARDER_SOURCE_DIR "/bench/data/mooncake_conversation_trace.jsonl.zst");
}

L1ReplayOptions sizes_only(std::uint64_t columns) {
  L1ReplayOptions options = options_for(columns);
  options.sizes_only = true;
  options.with_model = false;
  return options;
}

TEST(L1ReplayTest, OnTheConversationTraceLruIsExactAtEverySize) {
  const auto trace = conversation();
  ASSERT_EQ(trace.size(), 12'031U);
  // The sizes at which the order of a request's uses makes no difference to any request.
  for (const std::uint64_t columns : {1'000U, 10'000U, 50'000U}) {
    SCOPED_TRACE(columns);
    expect_exact_lru(sizes_only(columns), trace, LruOrder::kLastToFirst);
  }
  for (const std::uint64_t columns : {2'000U, 5'000U, 20'000U}) {
    SCOPED_TRACE(columns);
    expect_exact_lru(sizes_only(columns), trace, LruOrder::kHitsThenStores);
  }
}

TEST(L1ReplayTest, OnTheConversationTracePrefixClosesAPartOfTheGapToTheOptimum) {
  const auto trace = conversation();
  struct Row {
    std::uint64_t columns;
    double lru;
    double optimum;
    double gap;
  };
  for (const Row& row : {Row{1'000, .0445, .1907, .2}, Row{3'000, .0653, .2945, .25},
                         Row{10'000, .2116, .3664, .12}}) {
    L1ReplayOptions options = sizes_only(row.columns);
    options.policy = "prefix";
    const L1ReplayResult result = replay_over(options, trace);
    const double rate =
        static_cast<double>(result.hit_l1.blocks) / static_cast<double>(result.total.blocks);
    EXPECT_GE(rate, row.lru + row.gap * (row.optimum - row.lru)) << row.columns;
  }
}

TEST(L1ReplayTest, OnTheConversationTraceItHasTheFiguresOfAnIndependentSimulation) {
  const auto trace = conversation();
  struct Row {
    std::uint64_t columns;
    double rate;
  };
  for (const Row& row : {Row{1'000, .0445}, Row{10'000, .2116}, Row{50'000, .3546}}) {
    const L1ReplayResult result = replay_over(sizes_only(row.columns), trace);
    EXPECT_NEAR(
        static_cast<double>(result.hit_l1.blocks) / static_cast<double>(result.total.blocks),
        row.rate, .00005)
        << row.columns;
  }
}

TEST(L1ReplayTest, OnTheConversationTraceEightRanksHitWhatOneHits) {
  const auto trace = conversation();
  L1ReplayOptions one = sizes_only(0);
  one.block_bytes = 8 * kBlockBytes;
  one.l1_bytes = 10'000 * one.block_bytes;
  L1ReplayOptions eight = one;
  eight.ranks = 8;
  EXPECT_EQ(replay_over(eight, trace).requests, replay_over(one, trace).requests);
}

TEST(L1ReplayTest, LruIsExactOnTracesThatAreThere) {
  const std::set<std::filesystem::path> paths = traces_that_are_there();
  if (paths.empty()) {
    GTEST_SKIP() << "SKIPPED (needs traces, *.zst, in the directory LARDER_TRACES)";
  }
  constexpr std::uint64_t kRequestsMax = 6'000;  // Millions of blocks.
  for (const std::filesystem::path& path : paths) {
    SCOPED_TRACE(path);
    const auto trace = read(path, kRequestsMax);
    std::size_t longest = 0;
    for (const TraceRequest& request : trace) longest = std::max(longest, request.blocks.size());
    // Above that no hit is cut by the room that locks may take (E12).
    for (const std::uint64_t columns : {2 * longest, 4 * longest, 16 * longest}) {
      SCOPED_TRACE(columns);
      expect_exact_lru(sizes_only(columns), trace, LruOrder::kHitsThenStores);
    }
  }
}

}  // namespace
}  // namespace larder::tools
