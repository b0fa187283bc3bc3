// The models behind `larder size` against models that are slow and plain.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <list>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/policies/policy.h"
#include "larder/tools/baseline_policies.h"
#include "larder/tools/block_trace.h"
#include "larder/tools/lru_curve.h"
#include "larder/tools/policy_simulation.h"
#include "larder/tools/prefix_optimum.h"
#include "larder/tools/trace_test_support.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;
const std::atomic<bool> kStop = true;
constexpr std::uint64_t kBlockBytes = 4096;

using Chains = std::vector<std::vector<std::uint64_t>>;

BlockTrace trace_of(const Chains& chains) {
  std::vector<TraceRequest> requests;
  for (const auto& chain : chains) requests.push_back({.blocks = chain});
  auto trace = BlockTrace::make(requests);
  EXPECT_TRUE(trace) << trace.error().text;
  return std::move(*trace);
}

/// Paths from the root of a random tree of `blocks` nodes: as prefixes are shared.
Chains tree_chains(std::size_t requests, std::size_t blocks, Random& random) {
  std::vector<std::vector<std::uint64_t>> paths;
  for (std::uint64_t block = 0; block < blocks; ++block) {
    const bool is_first = paths.empty() || random.one_in(5);
    auto path = is_first ? std::vector<std::uint64_t>{} : paths[random.below(paths.size())];
    path.push_back(block * 1000 + 7);
    paths.push_back(std::move(path));
  }
  Chains chains;
  for (std::size_t i = 0; i < requests; ++i) chains.push_back(paths[random.below(paths.size())]);
  return chains;
}

/// Chains that follow no rule, repeats included.
Chains wild_chains(std::size_t requests, std::size_t blocks, Random& random) {
  Chains chains(requests);
  for (auto& chain : chains) {
    for (std::uint64_t more = 1 + random.below(12); more > 0; --more) {
      chain.push_back(random.below(blocks));
    }
  }
  return chains;
}

/// LRU as a list that is walked.
std::uint64_t plain_lru(const BlockTrace& trace, std::uint64_t capacity) {
  std::list<BlockNumber> cache;  // Most recently used first.
  std::uint64_t hits = 0;
  for (std::size_t request = 0; request < trace.requests(); ++request) {
    const auto chain = trace.chain(request);
    for (const BlockNumber block : chain) {
      if (std::ranges::find(cache, block) == cache.end()) break;
      ++hits;
    }
    for (std::size_t i = chain.size(); i > 0; --i) {
      cache.remove(chain[i - 1]);
      cache.push_front(chain[i - 1]);
      if (cache.size() > capacity) cache.pop_back();
    }
  }
  return hits;
}

/// The best result of every choice of blocks to keep after every request.
class BruteForce {
 public:
  BruteForce(const BlockTrace& trace, int capacity) : trace_(trace), capacity_(capacity) {}

  std::uint64_t hits() { return best(0, 0); }

 private:
  using Set = std::uint32_t;

  std::uint64_t best(std::size_t request, Set resident) {
    if (request == trace_.requests()) return 0;
    const auto [known, is_new] = best_.try_emplace({request, resident}, 0);
    if (!is_new) return known->second;
    std::uint64_t hits = 0;
    Set available = resident;
    bool is_prefix = true;
    for (const BlockNumber block : trace_.chain(request)) {
      is_prefix = is_prefix && (resident >> block & 1) != 0;
      hits += is_prefix ? 1 : 0;
      available |= Set{1} << block;
    }
    std::uint64_t rest = 0;
    for (Set kept = available;; kept = (kept - 1) & available) {
      if (std::popcount(kept) <= capacity_) rest = std::max(rest, best(request + 1, kept));
      if (kept == 0) break;
    }
    return best_[{request, resident}] = hits + rest;
  }

  const BlockTrace& trace_;
  const int capacity_;
  std::map<std::pair<std::size_t, Set>, std::uint64_t> best_;
};

std::uint64_t optimum_of(const PrefixOptimum& optimum, std::uint64_t capacity) {
  const auto hits = optimum.hits(capacity, kNoStop);
  EXPECT_TRUE(hits);
  return hits.value_or(0);
}

std::uint64_t policy_of(const BlockTrace& trace, const cache::PolicyKind& kind,
                        std::uint64_t capacity) {
  const auto hits = policy_hits(trace, kind, capacity, kBlockBytes, kNoStop);
  EXPECT_TRUE(hits);
  return hits.value_or(std::numeric_limits<std::uint64_t>::max());
}

LruCurve curve_of(const BlockTrace& trace) {
  auto curve = LruCurve::measure(trace, kNoStop);
  EXPECT_TRUE(curve);
  return std::move(*curve);
}

/// Relations between the models for any prefix-consistent trace.
void expect_optimum_is_the_most(const BlockTrace& trace,
                                const std::vector<std::uint64_t>& capacities) {
  const LruCurve lru = curve_of(trace);
  const PrefixOptimum optimum{trace};
  std::uint64_t smaller = 0;
  for (const std::uint64_t capacity : capacities) {
    const std::uint64_t most = optimum_of(optimum, capacity);
    EXPECT_GE(most, smaller) << capacity;
    EXPECT_LE(most, lru.hits_max()) << capacity;
    EXPECT_GE(most, lru.hits(capacity)) << capacity;
    for (const cache::PolicyKind& kind : cache::policy_kinds()) {
      EXPECT_GE(most, policy_of(trace, kind, capacity)) << kind.name << " " << capacity;
    }
    smaller = most;
  }
  EXPECT_EQ(optimum_of(optimum, trace.blocks()), lru.hits_max());
}

TEST(BlockTraceTest, BlocksAreNumberedAsTheyAppear) {
  const BlockTrace trace = trace_of({{70, 50}, {70, 50, 90}, {10}});
  EXPECT_EQ(trace.requests(), 3U);
  EXPECT_EQ(trace.references(), 6U);
  EXPECT_EQ(trace.blocks(), 4U);
  EXPECT_EQ(std::vector(trace.chain(1).begin(), trace.chain(1).end()),
            (std::vector<BlockNumber>{0, 1, 2}));
  EXPECT_EQ(trace.begin(2), 5U);
  EXPECT_EQ(trace.reference(5), 3U);
  EXPECT_EQ(trace.repeats(), 0U);
  EXPECT_EQ(trace.inconsistent_blocks(), 0U);
}

TEST(BlockTraceTest, RepeatsWithinARequestAreDroppedAndCounted) {
  const BlockTrace trace = trace_of({{1, 2, 1, 2, 3}, {1}});
  EXPECT_EQ(trace.references(), 4U);
  EXPECT_EQ(trace.repeats(), 2U);
  EXPECT_EQ(trace.inconsistent_blocks(), 0U);
}

TEST(BlockTraceTest, ABlockBehindDifferentBlocksIsCountedOnce) {
  EXPECT_EQ(trace_of({{1, 3}, {2, 3}, {3}, {1, 3}}).inconsistent_blocks(), 1U);
  EXPECT_EQ(trace_of({{1, 2}, {2, 1}}).inconsistent_blocks(), 2U);
}

TEST(LruCurveTest, TailsLeaveBeforeHeads) {
  // The first two of the three blocks stay.
  const LruCurve lru = curve_of(trace_of({{1, 2, 3}, {1, 2, 3}}));
  for (std::uint64_t capacity = 0; capacity < 5; ++capacity) {
    EXPECT_EQ(lru.hits(capacity), std::min<std::uint64_t>(capacity, 3)) << capacity;
  }
}

TEST(LruCurveTest, EqualsAPlainListAtEverySize) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Random random{seed};
    const std::size_t blocks = 2 + random.below(90);
    const BlockTrace trace = trace_of(seed % 2 == 0 ? tree_chains(150, blocks, random)
                                                    : wild_chains(150, blocks, random));
    const LruCurve lru = curve_of(trace);
    for (std::uint64_t capacity = 0; capacity <= trace.blocks() + 2; ++capacity) {
      ASSERT_EQ(lru.hits(capacity), plain_lru(trace, capacity))
          << "seed " << seed << ", capacity " << capacity;
    }
    EXPECT_EQ(lru.hits_max(), lru.hits(trace.blocks()));
  }
}

TEST(LruCurveTest, TheSmallestSizeForSoManyHits) {
  Random random{5};
  const LruCurve lru = curve_of(trace_of(tree_chains(300, 60, random)));
  EXPECT_EQ(lru.capacity_for(0), 0U);
  for (std::uint64_t hits = 1; hits <= lru.hits_max(); ++hits) {
    const std::uint64_t capacity = lru.capacity_for(hits);
    ASSERT_GE(lru.hits(capacity), hits);
    ASSERT_LT(lru.hits(capacity - 1), hits);
  }
}

TEST(PolicySimulationTest, TheEnginesLruIsTheExactOne) {
  const cache::PolicyKind& kind = **cache::find_policy("LRU");
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Random random{seed};
    const BlockTrace trace = trace_of(tree_chains(200, 50, random));
    const LruCurve lru = curve_of(trace);
    for (std::uint64_t capacity = 1; capacity <= trace.blocks(); ++capacity) {
      ASSERT_EQ(policy_of(trace, kind, capacity), lru.hits(capacity)) << seed << " " << capacity;
    }
  }
}

TEST(PolicySimulationTest, NoopKeepsWhatCameFirst) {
  const cache::PolicyKind& kind = **cache::find_policy("noop");
  const BlockTrace trace = trace_of({{1, 2}, {3, 4}, {1, 2}, {3, 4}});
  EXPECT_EQ(policy_of(trace, kind, 2), 2U);
  EXPECT_EQ(policy_of(trace, kind, 3), 2U);  // The third is a tail without its head.
  EXPECT_EQ(policy_of(trace, kind, 4), 4U);
}

TEST(PrefixOptimumTest, EqualsEveryChoiceTried) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    Random random{seed};
    const BlockTrace trace = trace_of(tree_chains(8, 7, random));
    const PrefixOptimum optimum{trace};
    for (int capacity = 0; capacity <= static_cast<int>(trace.blocks()); ++capacity) {
      ASSERT_EQ(optimum_of(optimum, static_cast<std::uint64_t>(capacity)),
                BruteForce(trace, capacity).hits())
          << "seed " << seed << ", capacity " << capacity;
    }
  }
}

TEST(PrefixOptimumTest, IsAnUpperBoundWhereIdsAreNoPrefixes) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Random random{seed};
    const BlockTrace trace = trace_of(wild_chains(6, 6, random));
    const PrefixOptimum optimum{trace};
    for (int capacity = 0; capacity <= static_cast<int>(trace.blocks()); ++capacity) {
      ASSERT_GE(optimum_of(optimum, static_cast<std::uint64_t>(capacity)),
                BruteForce(trace, capacity).hits())
          << "seed " << seed << ", capacity " << capacity;
    }
  }
}

TEST(PrefixOptimumTest, IsNeverBelowAnyPolicy) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Random random{seed};
    const BlockTrace trace = trace_of(tree_chains(400, 20 + random.below(200), random));
    std::vector<std::uint64_t> capacities;
    for (std::uint64_t capacity = 1; capacity <= trace.blocks(); capacity += 1 + capacity / 4) {
      capacities.push_back(capacity);
    }
    expect_optimum_is_the_most(trace, capacities);
  }
}

TEST(SizeModelsTest, HitsOfAWarmupAreThoseOfTheRequestsLeftOut) {
  // The counts before and after a warm-up add up, in models that do not know the future.
  Random random{7};
  const Chains chains = tree_chains(300, 60, random);
  std::vector<TraceRequest> requests;
  for (const auto& chain : chains) requests.push_back({.blocks = chain});
  const std::vector<TraceRequest> first{requests.begin(), requests.begin() + 100};
  const BlockTrace whole = *BlockTrace::make(requests);
  const BlockTrace warmed = *BlockTrace::make(requests, 100);
  const BlockTrace before = *BlockTrace::make(first);
  EXPECT_EQ(warmed.counted_references() + before.references(), whole.references());
  for (std::uint64_t capacity = 1; capacity <= 60; capacity += 7) {
    EXPECT_EQ(curve_of(warmed).hits(capacity),
              curve_of(whole).hits(capacity) - curve_of(before).hits(capacity));
    for (const cache::PolicyKind& kind : cache::policy_kinds()) {
      EXPECT_EQ(policy_of(warmed, kind, capacity),
                policy_of(whole, kind, capacity) - policy_of(before, kind, capacity));
    }
    EXPECT_LE(optimum_of(PrefixOptimum{warmed}, capacity), curve_of(warmed).hits_max());
    EXPECT_GE(optimum_of(PrefixOptimum{warmed}, capacity), curve_of(warmed).hits(capacity));
  }
}

TEST(SizeModelsTest, AnInterruptEndsEachOfThem) {
  const BlockTrace trace = trace_of({{1, 2}, {1, 2}});
  EXPECT_EQ(LruCurve::measure(trace, kStop).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(PrefixOptimum{trace}.hits(1, kStop).error().code, ErrorCode::kCancelled);
  for (const cache::PolicyKind& kind : cache::policy_kinds()) {
    EXPECT_EQ(policy_hits(trace, kind, 1, kBlockBytes, kStop).error().code, ErrorCode::kCancelled);
  }
}

BlockTrace read(const std::string& path) {
  const auto read = read_trace({.trace_path = path}, kNoStop);
  EXPECT_TRUE(read) << read.error().text;
  auto trace = BlockTrace::make(read.value_or(Trace{}).requests);
  EXPECT_TRUE(trace);
  return std::move(*trace);
}

/// Hit rates in ten thousandths.
std::uint64_t rounded(std::uint64_t hits, const BlockTrace& trace) {
  return (hits * 20'000 / trace.references() + 1) / 2;
}

TEST(SizeModelsTest, TheConversationTraceHasTheFiguresOfAnIndependentSimulation) {
  const BlockTrace trace =
      read(LARDER_SOURCE_DIR "/bench/data/mooncake_conversation_trace.jsonl.zst");
  EXPECT_EQ(trace.references(), 288'500U);
  EXPECT_EQ(trace.blocks(), 182'790U);
  EXPECT_EQ(trace.repeats(), 0U);
  EXPECT_EQ(trace.inconsistent_blocks(), 0U);
  const LruCurve lru = curve_of(trace);
  EXPECT_EQ(rounded(lru.hits_max(), trace), 3664U);
  const PrefixOptimum optimum{trace};
  struct Row {
    std::uint64_t capacity;
    std::uint64_t lru;
    std::uint64_t fifo;
    std::uint64_t optimum;
  };
  const cache::PolicyKind& fifo = **find_simulated_policy("FIFO");
  for (const Row& row :
       {Row{1000, 445, 445, 1907}, Row{2000, 543, 534, 2550}, Row{3000, 653, 637, 2945},
        Row{5000, 1118, 1064, 3412}, Row{10'000, 2116, 1820, 3664}, Row{20'000, 2878, 2585, 3664},
        Row{30'000, 3257, 2950, 3664}, Row{50'000, 3546, 3336, 3664}}) {
    EXPECT_EQ(rounded(lru.hits(row.capacity), trace), row.lru) << row.capacity;
    EXPECT_EQ(rounded(policy_of(trace, fifo, row.capacity), trace), row.fifo) << row.capacity;
    EXPECT_EQ(rounded(optimum_of(optimum, row.capacity), trace), row.optimum) << row.capacity;
  }
}

TEST(SizeModelsTest, TheOptimumIsNeverBelowAnyPolicyOnTracesThatAreThere) {
  const std::set<std::filesystem::path> paths = traces_that_are_there();
  if (paths.empty()) {
    GTEST_SKIP() << "SKIPPED (needs traces, *.zst, in the directory LARDER_TRACES)";
  }
  for (const std::filesystem::path& path : paths) {
    SCOPED_TRACE(path);
    const BlockTrace trace = read(path);
    EXPECT_EQ(trace.inconsistent_blocks(), 0U);
    expect_optimum_is_the_most(trace, {trace.blocks() / 500, trace.blocks() / 100,
                                       trace.blocks() / 20, trace.blocks() / 5});
  }
}

}  // namespace
}  // namespace larder::tools
