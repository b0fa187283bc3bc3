// The sketch that answers "what if" in a running store against the exact curve of `larder size`.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "larder/base/hash.h"
#include "larder/connector/hit_rate_sketch.h"
#include "larder/tools/block_trace.h"
#include "larder/tools/lru_curve.h"
#include "larder/tools/trace_test_support.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;
constexpr std::uint64_t kBlockBytes = 4096;
constexpr double kErrorMost = 0.02;
/// So that all requests count alike, as in the exact curve.
constexpr std::uint32_t kNeverAges = 0xFFFF'FFF0;

/// A cache whose least recently used block goes first, tails before heads.
class Lru {
 public:
  explicit Lru(std::uint64_t capacity) : capacity_(capacity) {}

  std::size_t hit(std::span<const BlockNumber> chain) const {
    std::size_t hits = 0;
    while (hits < chain.size() && places_.contains(chain[hits])) ++hits;
    return hits;
  }
  void use(BlockNumber block) {
    if (const auto found = places_.find(block); found != places_.end()) order_.erase(found->second);
    order_.push_front(block);
    places_[block] = order_.begin();
    if (order_.size() <= capacity_) return;
    places_.erase(order_.back());
    order_.pop_back();
  }

 private:
  const std::uint64_t capacity_;
  std::list<BlockNumber> order_;
  std::unordered_map<BlockNumber, std::list<BlockNumber>::iterator> places_;
};

std::uint64_t hash_of(BlockNumber block, std::uint64_t seed) {
  return hash64(std::as_bytes(std::span{&block, 1}), seed);
}

/// Like a store of that capacity: asks, then loads and stores.
WhatIf sketched(const BlockTrace& trace, std::uint64_t capacity, std::uint64_t seed,
                HitRateSketch::Options options = {.half_life_asks = kNeverAges}) {
  options.capacity_bytes = capacity * kBlockBytes;
  HitRateSketch sketch{options};
  Lru store{capacity};
  for (std::size_t request = 0; request < trace.requests(); ++request) {
    const auto chain = trace.chain(request);
    const std::size_t hits = store.hit(chain);
    sketch.count(chain.size(), hits);
    sketch.begin_request();
    for (std::size_t i = 0; i < chain.size(); ++i) sketch.ask(hash_of(chain[i], seed), i < hits);
    for (std::size_t i = chain.size(); i-- > 0;) {
      sketch.use(hash_of(chain[i], seed), kBlockBytes);
      store.use(chain[i]);
    }
  }
  return sketch.estimate();
}

void expect_near_exact(const WhatIf& told, const LruCurve& exact, const BlockTrace& trace,
                       const std::string& where) {
  for (std::size_t i = 0; i < told.points.size(); ++i) {
    const WhatIf::Point& point = told.points.at(i);
    const std::uint64_t hits = point.capacity_bytes == 0
                                   ? exact.hits_max()
                                   : exact.hits(point.capacity_bytes / kBlockBytes);
    ASSERT_TRUE(point.hit_rate) << where << ", " << kWhatIfNames.at(i);
    EXPECT_NEAR(*point.hit_rate,
                static_cast<double>(hits) / static_cast<double>(trace.counted_references()),
                kErrorMost)
        << where << ", " << kWhatIfNames.at(i);
  }
}

BlockTrace trace_of(const std::vector<TraceRequest>& requests, std::size_t warmup = 0) {
  auto trace = BlockTrace::make(requests, warmup);
  EXPECT_TRUE(trace) << trace.error().text;
  return std::move(*trace);
}

/// At sizes from a few requests to the working set.
void check(const std::string& name, const BlockTrace& trace, std::uint64_t seeds) {
  const auto exact = LruCurve::measure(trace, kNoStop);
  ASSERT_TRUE(exact);
  for (std::uint64_t capacity = 500; capacity < trace.blocks(); capacity *= 8) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
      const WhatIf told = sketched(trace, capacity, seed);
      expect_near_exact(
          told, *exact, trace,
          name + ", " + std::to_string(capacity) + " blocks, seed " + std::to_string(seed));
      ASSERT_TRUE(told.measured);
      EXPECT_NEAR(
          *told.measured,
          static_cast<double>(exact->hits(capacity)) / static_cast<double>(trace.references()),
          1e-9)
          << "the store of this test is exact";
    }
  }
}

BlockTrace read(const std::filesystem::path& path) {
  TraceOptions options;
  options.trace_path = path;
  const auto trace = read_trace(options, kNoStop);
  EXPECT_TRUE(trace) << trace.error().text;
  return trace_of(trace->requests);
}

TEST(WhatIf, FollowsTheExactCurveOfConversations) {
  check("conversations", trace_of(make_conversations(3'000, 20'000, 5)), 3);
}

TEST(WhatIf, FollowsTheExactCurveOfAPublishedTrace) {
  check("conversation trace",
        read(LARDER_SOURCE_DIR "/bench/data/mooncake_conversation_trace.jsonl.zst"), 1);
}

TEST(WhatIf, FollowsTheExactCurveOfFurtherTraces) {
  const auto paths = traces_that_are_there();
  if (paths.empty()) {
    GTEST_SKIP() << "SKIPPED (needs traces, *.zst, in the directory LARDER_TRACES)";
  }
  for (const auto& path : paths) check(path.filename().string(), read(path), 1);
}

/// Half of the requests are of one phase, half of another; only the second one counts by then.
TEST(WhatIf, FollowsAChangeOfPhaseAsItAges) {
  std::vector<TraceRequest> requests = make_conversations(30, 10'000, 7);
  // Conversations that continue less often, with their own blocks.
  for (TraceRequest request : make_conversations(1'500, 20'000, 8)) {
    for (std::uint64_t& block : request.blocks) block += 10'000'000;
    requests.push_back(std::move(request));
  }
  const BlockTrace whole = trace_of(requests);
  const BlockTrace second = trace_of(requests, 20'000);
  const auto exact = LruCurve::measure(second, kNoStop);
  ASSERT_TRUE(exact);
  const std::uint64_t capacity = 4'000;
  const WhatIf told = sketched(whole, capacity, 1, {.half_life_asks = 8192});
  expect_near_exact(told, *exact, second, "second phase");
  const auto exact_of_all = LruCurve::measure(whole, kNoStop);
  ASSERT_TRUE(exact_of_all);
  EXPECT_GT(std::abs(static_cast<double>(exact_of_all->hits(capacity)) /
                         static_cast<double>(whole.references()) -
                     *told.points[1].hit_rate),
            2 * kErrorMost)
      << "the phases are too alike for this test";
}

}  // namespace
}  // namespace larder::tools
