#include "larder/tools/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "larder/base/random.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/lru_model.h"
#include "larder/tools/trace_test_support.h"
#include "larder/tools/value_pattern.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

std::vector<TraceRequest> make_trace(std::size_t requests, std::uint64_t seed) {
  return make_conversations(8, requests, seed);
}

ReplayOptions small_options() {
  ReplayOptions options;
  options.trace_path = "test";
  options.block_bytes = 4096;
  options.is_quiet = true;
  return options;
}

/// Passes everything on, but cannot answer from memory: lookups have to be submitted.
class WithoutProbe final : public Connector {
 public:
  explicit WithoutProbe(std::unique_ptr<Connector> inner) : inner_(std::move(inner)) {}

  Status submit(Batch& batch) noexcept override { return inner_->submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return inner_->reap(done); }
  int event_fd() const noexcept override { return inner_->event_fd(); }
  void cancel(Batch& batch) noexcept override { inner_->cancel(batch); }
  bool probe(std::span<Item>) const noexcept override { return false; }
  Capabilities capabilities() const noexcept override { return inner_->capabilities(); }
  Report report() const override { return inner_->report(); }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return inner_->scan(from, keys_max);
  }
  Status stop(std::uint64_t deadline_ns) noexcept override { return inner_->stop(deadline_ns); }

 private:
  std::unique_ptr<Connector> inner_;
};

std::unique_ptr<Connector> open(std::string_view spec) {
  auto connector = builtin_registry().open(spec);
  EXPECT_TRUE(connector) << connector.error().text;
  return connector ? std::move(*connector) : nullptr;
}

ReplayResult replay_over(std::string_view spec, const ReplayOptions& options,
                         const std::vector<TraceRequest>& trace) {
  const auto connector = open(spec);
  auto result = replay(options, trace, *connector, kNoStop);
  EXPECT_TRUE(result) << result.error().text;
  EXPECT_TRUE(connector->stop(kNever));
  return result ? std::move(*result) : ReplayResult{};
}

TEST(LruModelTest, EqualsANaiveModel) {
  for (const std::size_t capacity : {0U, 1U, 7U, 40U, 1000U}) {
    LruModel model{capacity};
    std::vector<std::uint64_t> naive;  // Least recently used first.
    for (const TraceRequest& request : make_trace(300, capacity + 1)) {
      const auto is_there = [&naive](std::uint64_t block) {
        return std::find(naive.begin(), naive.end(), block) != naive.end();
      };
      std::size_t expected = 0;
      while (expected < request.blocks.size() && is_there(request.blocks[expected])) ++expected;
      for (const std::uint64_t block : request.blocks) {
        std::erase(naive, block);
        naive.push_back(block);
        if (naive.size() > capacity) naive.erase(naive.begin());
      }
      ASSERT_EQ(model.request(request.blocks), expected) << "capacity " << capacity;
    }
  }
}

TEST(ValuePatternTest, TheSameSeedGivesTheSameBytesAndAnotherSeedGivesOthers) {
  const ValuePattern pattern;
  const ValuePattern other_object;
  std::vector<std::byte> value(200'001);
  pattern.fill(7, value);
  EXPECT_FALSE(other_object.first_difference(7, value));
  EXPECT_TRUE(pattern.first_difference(8, value));
}

TEST(ValuePatternTest, FindsEveryFlippedBit) {
  const ValuePattern pattern;
  std::vector<std::byte> value(9001);
  pattern.fill(42, value);
  for (std::size_t i = 0; i < value.size(); i += 7) {
    value[i] ^= std::byte{0x10};
    EXPECT_EQ(pattern.first_difference(42, value), i);
    value[i] ^= std::byte{0x10};
  }
}

TEST(ValuePatternTest, NoTwoBlocksOfAValueAreEqual) {
  const ValuePattern pattern;
  std::vector<std::byte> value(std::size_t{1} << 20);
  pattern.fill(1, value);
  std::unordered_set<std::string> blocks;
  for (std::size_t at = 0; at < value.size(); at += 4096) {
    blocks.emplace(reinterpret_cast<const char*>(value.data() + at), 4096);
  }
  EXPECT_EQ(blocks.size(), 256U);
}

TEST(ReplayTest, WithRoomForAllEveryPrefixThatWasSeenIsAHit) {
  const auto trace = make_trace(400, 3);
  std::unordered_set<std::uint64_t> seen;
  std::uint64_t expected_blocks = 0;
  std::uint64_t expected_tokens = 0;
  std::uint64_t all_blocks = 0;
  for (const TraceRequest& request : trace) {
    std::uint64_t hits = 0;
    while (hits < request.blocks.size() && seen.contains(request.blocks[hits])) ++hits;
    expected_blocks += hits;
    expected_tokens += std::min(hits * kDefaultBlockTokens, request.input_tokens);
    all_blocks += request.blocks.size();
    seen.insert(request.blocks.begin(), request.blocks.end());
  }
  // A small batch, so that chains take several; requests in flight must not change the hits.
  for (const std::uint32_t concurrency : {1U, 5U}) {
    ReplayOptions options = small_options();
    options.concurrency = concurrency;
    options.batch_blocks = 3;
    const ReplayResult result = replay_over("memory:?capacity=1GiB", options, trace);
    EXPECT_TRUE(result.is_good());
    EXPECT_EQ(result.requests, trace.size());
    EXPECT_EQ(result.hit.blocks, expected_blocks);
    EXPECT_EQ(result.hit.tokens, expected_tokens);
    EXPECT_EQ(result.model_lru.blocks, expected_blocks);
    EXPECT_EQ(result.model_unbounded.blocks, expected_blocks);
    EXPECT_EQ(result.total.blocks, all_blocks);
    EXPECT_EQ(result.load.bytes, expected_blocks * 4096);
    EXPECT_EQ(result.blocks_stored, seen.size());
    EXPECT_EQ(result.store.bytes, seen.size() * 4096);
    EXPECT_EQ(result.report_at_end.keys, seen.size());
    EXPECT_EQ(result.lookup.latency_ns.count(), trace.size());
    EXPECT_TRUE(result.interrupted_by.empty());
  }
}

TEST(ReplayTest, ASmallStoreEvictsAndOneRequestAtATimeIsDeterministic) {
  const auto trace = make_trace(400, 4);
  ReplayOptions options = small_options();
  options.concurrency = 1;
  const ReplayResult first = replay_over("memory:?capacity=400KiB", options, trace);
  const ReplayResult second = replay_over("memory:?capacity=400KiB", options, trace);
  EXPECT_TRUE(first.is_good());
  EXPECT_EQ(first.hit.blocks, second.hit.blocks);
  EXPECT_EQ(first.blocks_stored, second.blocks_stored);
  EXPECT_LT(first.model_lru.blocks, first.model_unbounded.blocks);
  EXPECT_LT(first.hit.blocks, first.model_unbounded.blocks);
  EXPECT_GT(first.counters.at("evictions_total"), 0U);
}

TEST(ReplayTest, AStoreThatHoldsDataIsRecognised) {
  const auto trace = make_trace(100, 5);
  const auto connector = open("memory:?capacity=1GiB");
  const auto first = replay(small_options(), trace, *connector, kNoStop);
  const auto second = replay(small_options(), trace, *connector, kNoStop);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->keys_at_start, 0U);
  EXPECT_EQ(second->keys_at_start, first->report_at_end.keys);
  EXPECT_EQ(second->hit.blocks, second->total.blocks);
  EXPECT_EQ(second->blocks_stored, 0U);
  EXPECT_NE(to_text(small_options(), *second).find("keys were there at the start"),
            std::string::npos);
  EXPECT_TRUE(connector->stop(kNever));
}

TEST(ReplayTest, WrongBytesStopTheRunAndMakeItBad) {
  const auto trace = make_trace(100, 6);
  const ReplayResult result = replay_over(
      R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"corrupt_rate":1})",
      small_options(), trace);
  EXPECT_FALSE(result.is_good());
  EXPECT_GT(result.mismatches, 0U);
  EXPECT_NE(result.first_mismatch.find("replay/4KiB/"), std::string::npos) << result.first_mismatch;
  EXPECT_EQ(result.interrupted_by, "a hit with wrong bytes");
  EXPECT_LT(result.requests, trace.size());
  EXPECT_NE(to_text(small_options(), result).find("WRONG BYTES"), std::string::npos);
}

TEST(ReplayTest, FailedLoadsAreCountedAreNoHitsAndMakeTheRunBad) {
  const auto trace = make_trace(200, 7);
  const ReplayResult result = replay_over(
      R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"error_rate":0.1,"pattern":"get:*"})",
      small_options(), trace);
  EXPECT_FALSE(result.is_good());
  EXPECT_EQ(result.mismatches, 0U);
  EXPECT_GT(result.load.failures.at(ErrorCode::kIo).count, 0U);
  EXPECT_LT(result.hit.blocks, result.model_unbounded.blocks);
  EXPECT_EQ(result.requests, trace.size());
}

TEST(ReplayTest, FailedLookupsAndStoresAreCounted) {
  const auto trace = make_trace(50, 8);
  const ReplayResult stores = replay_over(
      R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"error_rate":1,"pattern":"set:*"})",
      small_options(), trace);
  EXPECT_FALSE(stores.is_good());
  EXPECT_EQ(stores.store.failures.at(ErrorCode::kIo).count, stores.total.blocks);
  EXPECT_EQ(stores.blocks_stored, 0U);
  EXPECT_NE(stores.store.failures.at(ErrorCode::kIo).first.find("fault: "), std::string::npos);
  EXPECT_NE(to_text(small_options(), stores).find(stores.store.failures.at(ErrorCode::kIo).first),
            std::string::npos);
  WithoutProbe connector{open(
      R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"error_rate":1,"pattern":"exists:*"})")};
  const auto lookups = replay(small_options(), trace, connector, kNoStop);
  ASSERT_TRUE(lookups);
  EXPECT_FALSE(lookups->is_good());
  EXPECT_EQ(lookups->lookup.failures.at(ErrorCode::kIo).count, lookups->total.blocks);
  EXPECT_EQ(lookups->hit.blocks, 0U);
  EXPECT_TRUE(connector.stop(kNever));
}

TEST(ReplayTest, SomeRefusedStoresAreNoFaultAndAllOfThemAre) {
  const auto trace = make_trace(50, 8);
  const ReplayResult some =
      replay_over("mock:?max_size_gb=0.00004&mock_bandwidth_gb=1000", small_options(), trace);
  EXPECT_GT(some.blocks_stored, 0U);
  EXPECT_GT(some.blocks_refused.count, 0U);
  EXPECT_TRUE(some.is_good());
  const ReplayResult all =
      replay_over("mock:?max_size_gb=0.000001&mock_bandwidth_gb=1000", small_options(), trace);
  EXPECT_EQ(all.blocks_stored, 0U);
  EXPECT_FALSE(all.is_good());
  for (const ReplayResult* const result : {&some, &all}) {
    EXPECT_EQ(result->blocks_refused.first, "mock: it is full, and evicts nothing");
    EXPECT_NE(to_text(small_options(), *result).find(result->blocks_refused.first),
              std::string::npos);
    const auto json = nlohmann::json::parse(to_json(small_options(), *result), nullptr, false);
    EXPECT_EQ(json["first_refusal"], result->blocks_refused.first);
    EXPECT_EQ(json["ok"], result == &some);
  }
}

TEST(ReplayTest, LookupsThatHaveToBeSubmittedGiveTheSameHits) {
  const auto trace = make_trace(300, 12);
  const ReplayResult probed = replay_over("memory:?capacity=1GiB", small_options(), trace);
  WithoutProbe connector{open("memory:?capacity=1GiB")};
  const auto submitted = replay(small_options(), trace, connector, kNoStop);
  ASSERT_TRUE(submitted);
  EXPECT_EQ(submitted->hit.blocks, probed.hit.blocks);
  EXPECT_EQ(submitted->lookup.latency_ns.count(), trace.size());
  EXPECT_GT(submitted->lookup.busy_ns, 0U);
  EXPECT_TRUE(connector.stop(kNever));
}

TEST(ReplayTest, ASmallLimitOfTheConnectorOnlySlowsTheRunDown) {
  const auto trace = make_trace(200, 9);
  const ReplayResult result =
      replay_over(R"({"type":"fault","inner":{"type":"memory","capacity":"1GiB"},"batches_max":1})",
                  small_options(), trace);
  EXPECT_TRUE(result.is_good());
  EXPECT_EQ(result.hit.blocks, result.model_unbounded.blocks);
}

TEST(ReplayTest, AStopEndsTheRunWithWhatWasMeasured) {
  const std::atomic<bool> stop = true;
  const auto connector = open("memory:?capacity=1GiB");
  const auto result = replay(small_options(), make_trace(50, 10), *connector, stop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->requests, 0U);
  EXPECT_EQ(result->interrupted_by, "a signal");
  EXPECT_TRUE(connector->stop(kNever));
}

TEST(ReplayTest, ABlockAboveTheLargestValueIsRefused) {
  ReplayOptions options = small_options();
  options.block_bytes = kValueBytesMax + 1;
  const auto connector = open("memory:?capacity=1GiB");
  const auto result = replay(options, make_trace(1, 1), *connector, kNoStop);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(connector->stop(kNever));
}

TEST(ReplayTest, ABlockThatANewStoreWouldRefuseMakesNone) {
  const testing::TemporaryDirectory directory;
  ReplayOptions options = small_options();
  options.trace_path = directory.path() + "/trace.jsonl";
  std::ofstream{options.trace_path}
      << R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]})";
  options.spec = "log:" + directory.path() + "/store?capacity=512MiB&max_value=1MiB";
  options.block_bytes = 2 << 20;
  const auto result = replay(options, kNoStop);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text.find("--block-bytes 2MiB"), std::string::npos)
      << result.error().text;
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/store"));
}

TEST(ReplayTest, TheJsonIsOneObjectWithTheResult) {
  const auto trace = make_trace(100, 11);
  const ReplayResult result = replay_over("memory:?capacity=1GiB", small_options(), trace);
  const auto json = nlohmann::json::parse(to_json(small_options(), result), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["hit"]["blocks"], result.hit.blocks);
  EXPECT_EQ(json["requests"], 100);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["model_lru"]["blocks"], result.model_lru.blocks);
}

TEST(ReplaySpeedTest, MaxTraceAndFactors) {
  EXPECT_EQ(parse_speed("max").value(), 0);
  EXPECT_EQ(parse_speed("trace").value(), 1);
  EXPECT_EQ(parse_speed("20x").value(), 20);
  EXPECT_EQ(parse_speed("0.5").value(), 0.5);
  for (const char* const bad : {"", "fast", "0x", "-1x", "1xx", "x", "inf", "nan"}) {
    EXPECT_FALSE(parse_speed(bad)) << bad;
  }
}

}  // namespace
}  // namespace larder::tools
