#include "larder/tools/size.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/random.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

/// Conversations that grow turn by turn; each turn adds a block.
BlockTrace conversations(std::size_t requests, std::size_t count, std::uint64_t seed) {
  Random random{seed};
  std::vector<std::vector<std::uint64_t>> chains(count);
  std::vector<TraceRequest> trace;
  for (std::uint64_t i = 0; i < requests; ++i) {
    auto& chain = chains[random.below(count)];
    chain.push_back(i);
    trace.push_back({.blocks = chain});
  }
  return *BlockTrace::make(trace);
}

SizeOptions small_options() {
  SizeOptions options;
  options.trace_path = "test";
  options.block_bytes = 4096;
  options.is_quiet = true;
  return options;
}

SizeResult measured(const SizeOptions& options, const BlockTrace& trace) {
  const auto result = measure_sizes(options, trace, kNoStop);
  EXPECT_TRUE(result) << result.error().text;
  return result.value_or(SizeResult{});
}

std::size_t count_of(const std::string& text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(SizeTest, TheSweepGoesFromFourRequestsToTheWorkingSet) {
  const BlockTrace trace = conversations(5000, 500, 1);  // 5.5 blocks a request.
  const std::vector<std::uint64_t> sizes = default_capacities(trace, 4096);
  EXPECT_EQ(sizes.front(), 128U << 10);
  EXPECT_EQ(sizes.back(), 5000U * 4096);
  EXPECT_EQ(sizes.size(), 9U);
  for (std::size_t i = 1; i + 1 < sizes.size(); ++i) EXPECT_EQ(sizes[i], 2 * sizes[i - 1]);
}

TEST(SizeTest, ALongSweepTakesLargerSteps) {
  const BlockTrace trace = conversations(100'000, 50'000, 1);
  const std::vector<std::uint64_t> sizes = default_capacities(trace, 4096);
  EXPECT_EQ(sizes[1], 4 * sizes[0]);
  EXPECT_LE(sizes.size(), 13U);
  EXPECT_EQ(sizes.back(), 100'000U * 4096);
}

TEST(SizeTest, ATraceOfOneRequestHasOneSize) {
  const std::vector<TraceRequest> requests{{.blocks = {1, 2}}};
  const BlockTrace trace = *BlockTrace::make(requests);
  const SizeResult result = measured(small_options(), trace);
  ASSERT_EQ(result.points.size(), 1U);
  EXPECT_EQ(result.points[0].capacity_bytes, 2U * 4096);
  EXPECT_EQ(result.hits_max, 0U);
  EXPECT_EQ(prefill_speedup(result, 0), 1);
  EXPECT_FALSE(to_text(small_options(), result, {}).empty());
  EXPECT_EQ(count_of(to_svg(small_options(), result), "nan"), 0U);
}

TEST(SizeTest, CapacitiesAreSortedAndWholeBlocks) {
  SizeOptions options = small_options();
  options.capacities_bytes = {40'000, 4096, 40'000, 1U << 30};
  const BlockTrace trace = conversations(300, 20, 2);
  const SizeResult result = measured(options, trace);
  ASSERT_EQ(result.points.size(), 3U);
  EXPECT_EQ(result.points[0].capacity_blocks, 1U);
  EXPECT_EQ(result.points[1].capacity_blocks, 9U);
  // Above the working set everything hits the most possible.
  for (const std::uint64_t hits : result.points[2].hits) EXPECT_EQ(hits, result.hits_max);
}

TEST(SizeTest, ColumnsAreLruThePoliciesAndTheOptimum) {
  const BlockTrace trace = conversations(300, 20, 2);
  EXPECT_EQ(
      measured(small_options(), trace).columns,
      (std::vector<std::string>{"LRU", "ARC", "S3-FIFO", "prefix", "FIFO", "CLOCK", "optimum"}));
  SizeOptions options = small_options();
  options.policies = {"noop", "lru", "s3fifo", "fifo", "NOOP"};
  EXPECT_EQ(measured(options, trace).columns,
            (std::vector<std::string>{"LRU", "noop", "S3-FIFO", "FIFO", "optimum"}));
}

TEST(SizeTest, EnoughIsTheSmallestSizeThatReachesTheShare) {
  SizeOptions options = small_options();
  const BlockTrace trace = conversations(2000, 100, 3);
  for (const SizeResult::Enough& one : measured(options, trace).enough) {
    options.capacities_bytes = {(one.blocks - 1) * 4096, one.blocks * 4096};
    const SizeResult around = measured(options, trace);
    const double wanted = one.share * static_cast<double>(around.hits_max);
    EXPECT_LT(static_cast<double>(around.points[0].hits[0]), wanted) << one.share;
    EXPECT_GE(static_cast<double>(around.points[1].hits[0]), wanted) << one.share;
  }
}

TEST(SizeTest, WhatCannotBeSimulatedIsRefused) {
  const BlockTrace trace = conversations(300, 20, 2);
  const auto refused = [&](const SizeOptions& options) {
    const auto result = measure_sizes(options, trace, kNoStop);
    EXPECT_FALSE(result);
    if (result) return std::string{};
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    return result.error().text;
  };
  SizeOptions options = small_options();
  options.capacities_bytes = {4095};
  EXPECT_EQ(refused(options), "capacity 4095: expected from one block (4KiB) to 4EiB");
  options = small_options();
  options.block_bytes = std::uint64_t{1} << 60;
  EXPECT_NE(refused(options).find("more than 4 EiB"), std::string::npos);
  options = small_options();
  options.policies = {"LUR"};
  EXPECT_NE(refused(options).find("did you mean 'LRU'?"), std::string::npos);
  const auto empty = measure_sizes(small_options(), *BlockTrace::make({}), kNoStop);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().text, "the trace has no blocks");
  // Before the trace is opened.
  options.trace_path = "/none";
  EXPECT_EQ(measure_sizes(options, kNoStop).error().code, ErrorCode::kInvalidArgument);
}

TEST(SizeTest, ReadsATraceAndItsFirstRequests) {
  const testing::TemporaryDirectory directory;
  SizeOptions options = small_options();
  options.trace_path = directory.path() + "/trace";
  std::ofstream file{options.trace_path};
  for (int i = 0; i < 10; ++i) {
    file << R"({"timestamp":)" << i << R"(,"input_length":1024,"output_length":1,"hash_ids":[0,)"
         << i % 3 + 1 << "]}\n";
  }
  file.close();
  options.requests_max = 7;
  const auto result = measure_sizes(options, kNoStop);
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->requests, 7U);
  EXPECT_EQ(result->references, 14U);
  EXPECT_EQ(result->blocks, 4U);
  EXPECT_EQ(result->hits_max, 10U);
}

TEST(SizeTest, TheTextHasEachMeasure) {
  SizeOptions options = small_options();
  options.capacities_bytes = {163'840};
  const std::string text = to_text(options, measured(options, conversations(300, 20, 2)), {});
  for (const char* const part :
       {"300 requests", "hit rate, of blocks", "misses, 1 - hit rate", "misses beside those of LRU",
        "gap from LRU to the optimum that is closed", "ideal prefill speed-up",
        "loaded instead of computed", "160 KiB", "optimum",
        "of these hits LRU reaches 50 % with"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_EQ(text.find("note:"), std::string::npos) << text;
}

TEST(SizeTest, ATraceWhoseIdsAreNoPrefixesIsSaidToBe) {
  const std::vector<TraceRequest> requests{{.blocks = {1, 3, 3}}, {.blocks = {2, 3}}};
  const BlockTrace trace = *BlockTrace::make(requests);
  const SizeResult result = measured(small_options(), trace);
  const std::string text = to_text(small_options(), result, {});
  EXPECT_NE(text.find("1 repeated block was within one request left out"), std::string::npos);
  EXPECT_NE(text.find("1 block follows different blocks"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(to_json(small_options(), result));
  EXPECT_EQ(json["is_optimum_exact"], false);
  EXPECT_EQ(json["repeated_blocks"], 1);
}

TEST(SizeTest, TheJsonAddsUp) {
  const BlockTrace trace = conversations(300, 20, 2);
  const SizeResult result = measured(small_options(), trace);
  const auto json = nlohmann::json::parse(to_json(small_options(), result));
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["is_optimum_exact"], true);
  EXPECT_EQ(json["blocks"], trace.references());
  EXPECT_EQ(json["unbounded"]["hit_blocks"], result.hits_max);
  ASSERT_EQ(json["sizes"].size(), result.points.size());
  for (const auto& size : json["sizes"]) {
    EXPECT_EQ(size["capacity_blocks"], size["capacity_bytes"].get<std::uint64_t>() / 4096);
    for (const std::string& column : result.columns) {
      const auto& policy = size["policies"][column];
      const auto hits = policy["hit_blocks"].get<std::uint64_t>();
      EXPECT_EQ(policy["miss_blocks"], trace.references() - hits);
      EXPECT_EQ(policy["hit_bytes"], hits * 4096);
      EXPECT_DOUBLE_EQ(policy["miss_rate"].get<double>(), 1 - policy["hit_rate"].get<double>());
      EXPECT_DOUBLE_EQ(policy["hit_rate"].get<double>() * policy["prefill_speedup"].get<double>(),
                       policy["prefill_speedup"].get<double>() - 1);
    }
  }
}

TEST(SizeTest, TheGapClosedGoesFromLruToTheOptimum) {
  const SizePoint point{.capacity_bytes = 1, .capacity_blocks = 1, .hits = {100, 150, 80, 200}};
  EXPECT_DOUBLE_EQ(gap_closed(point, 100).value(), 0);
  EXPECT_DOUBLE_EQ(gap_closed(point, 150).value(), 0.5);
  EXPECT_DOUBLE_EQ(gap_closed(point, 80).value(), -0.2);
  EXPECT_DOUBLE_EQ(gap_closed(point, 200).value(), 1);
  EXPECT_FALSE(gap_closed({.hits = {100, 90, 100}}, 90));
  SizeResult result;
  result.references = 1000;
  result.columns = {"LRU", "ARC", "S3-FIFO", "optimum"};
  result.points = {point};
  const std::string text = to_text(small_options(), result, {});
  EXPECT_NE(text.find("50.0 %"), std::string::npos) << text;
  EXPECT_NE(text.find("-20.0 %"), std::string::npos) << text;
  EXPECT_NE(text.find("+2.22 %"), std::string::npos) << text;  // 920 misses for 900.
  const auto json = nlohmann::json::parse(to_json(small_options(), result));
  const auto& policies = json["sizes"][0]["policies"];
  EXPECT_DOUBLE_EQ(policies["ARC"]["gap_closed"].get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(policies["S3-FIFO"]["misses_beside_lru"].get<double>(), 920.0 / 900 - 1);
}

TEST(SizeTest, NotesOfTheTraceAreInTheReports) {
  const testing::TemporaryDirectory directory;
  SizeOptions options = small_options();
  options.trace_path = directory.path() + "/trace";
  std::ofstream{options.trace_path}
      << R"({"type":"x","session_id":"s","block_size":16,"input_length":32,"hash_ids":[1,2]})";
  const auto result = measure_sizes(options, kNoStop);
  ASSERT_TRUE(result) << result.error().text;
  const std::string text = to_text(options, *result, {});
  EXPECT_NE(text.find("note: field ignored: type\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  1 session\n"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(to_json(options, *result));
  EXPECT_EQ(json["notes"][0], "field ignored: type");
  EXPECT_EQ(json["block_tokens"], 16);
  EXPECT_EQ(json["sessions"], 1);
}

TEST(SizeTest, AWarmupFillsTheCachesAndIsNotCounted) {
  const testing::TemporaryDirectory directory;
  SizeOptions options = small_options();
  options.trace_path = directory.path() + "/trace";
  std::ofstream file{options.trace_path};
  for (const char* const ids : {"[1,2]", "[1,2]", "[1,2]", "[3]"}) {
    file << "{\"hash_ids\":" << ids << "}\n";
  }
  file.close();
  options.capacities_bytes = {4 * 4096};
  options.warmup = 0.5;
  const auto result = measure_sizes(options, kNoStop);
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->warmup_requests, 2U);
  EXPECT_EQ(result->references, 3U);
  EXPECT_EQ(result->hits_max, 2U);
  for (const std::uint64_t hits : result->points[0].hits) EXPECT_EQ(hits, 2U);
  EXPECT_NE(to_text(options, *result, {}).find("2 requests at the beginning not counted"),
            std::string::npos);
  // After it there must be a block that a cache can miss.
  options.requests_max = 3;
  const auto known = measure_sizes(options, kNoStop);
  ASSERT_FALSE(known);
  EXPECT_NE(known.error().text.find("no block is new"), std::string::npos) << known.error().text;
  for (const double warmup : {-0.1, 1.0}) {
    options.warmup = warmup;
    EXPECT_EQ(measure_sizes(options, kNoStop).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(SizeTest, TheChartHasAPointForEachSizeAndPolicy) {
  SizeOptions options = small_options();
  options.trace_path = "a<b>&\"c\x1b.jsonl";
  const SizeResult result = measured(options, conversations(3000, 100, 2));
  const std::string svg = to_svg(options, result);
  EXPECT_TRUE(svg.starts_with("<svg xmlns="));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_EQ(count_of(svg, "<polyline"), result.columns.size());
  EXPECT_EQ(count_of(svg, "<circle"), result.columns.size() * result.points.size());
  EXPECT_NE(svg.find("a&lt;b&gt;&amp;\"c\\x1b.jsonl"), std::string::npos) << svg;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  // Every element ends, in the order in which they begin.
  std::vector<std::string> open;
  static const std::regex tag{"<(/?)([a-z]+)[^>]*?(/?)>"};
  for (auto at = std::sregex_iterator{svg.begin(), svg.end(), tag}; at != std::sregex_iterator{};
       ++at) {
    if ((*at)[3].length() > 0) continue;
    if ((*at)[1].length() == 0) {
      open.push_back((*at)[2]);
      continue;
    }
    ASSERT_FALSE(open.empty());
    ASSERT_EQ(open.back(), (*at)[2]);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
}

}  // namespace
}  // namespace larder::tools
