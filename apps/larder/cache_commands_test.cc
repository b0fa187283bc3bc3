// `replay --l1` and `size` as a shell runs them: the cache engine and its policies over a trace.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "apps/larder/cli_test_support.h"

namespace larder::cli {
namespace {

constexpr const char* kMemory = " 'memory:?capacity=64MiB' ";
constexpr const char* kCorrupt =
    R"( '{"type":"fault","inner":{"type":"memory","capacity":"64MiB"},"corrupt_rate":1}' )";

nlohmann::json json_of(const Ended& ended) {
  auto json = nlohmann::json::parse(ended.output, nullptr, false);
  EXPECT_TRUE(json.is_object()) << ended.output << ended.errors;
  return json.is_object() ? json : nlohmann::json::object();
}

TEST_F(LarderTest, AReplayThroughL1NeedsNoConnector) {
  // 50 requests of two blocks, 8 distinct ones: with room for all, every second use is a hit.
  for (const char* const none : {"", " none"}) {
    const Ended ended = run("replay " + trace_ + none + " --l1 1MiB");
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    EXPECT_EQ(ended.errors, "");
    EXPECT_TRUE(has(ended.output, "50 requests")) << ended.output;
    EXPECT_TRUE(has(ended.output, "92.00 % of blocks   92 blocks")) << ended.output;
    EXPECT_TRUE(has(ended.output, "never_stored 8")) << ended.output;
  }
  const auto json = json_of(run("replay " + trace_ + " --l1 128KiB --sizes-only --json"));
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["l1"]["capacity_blocks"], 2);
  EXPECT_EQ(json["l2"]["tiers"].size(), 0U);
}

TEST_F(LarderTest, AReplayThroughL1HasConnectorsBehindIt) {
  const auto json = json_of(run("replay " + trace_ + kMemory + kMemory +
                                "--l1 256KiB --policy arc --ranks 4 --promote none --json"));
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["l1"]["policy"], "ARC");
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_EQ(json["hit"]["blocks"], 92);
  EXPECT_EQ(json["l2"]["tiers"].size(), 2U);
  EXPECT_GT(json["l2"]["hit"]["blocks"], 0);
}

TEST_F(LarderTest, WrongBytesBehindL1ExitWith1) {
  const Ended ended = run("replay " + trace_ + kCorrupt + "--l1 256KiB");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_TRUE(has(ended.errors, "larder: WRONG BYTES: key ")) << ended.errors;
}

TEST_F(LarderTest, AnInterruptedReplayThroughL1EndsWithWhatWasMeasured) {
  write_endless_trace();
  const Ended ended = run("replay " + trace_ + kMemory + "--l1 1MiB --speed trace --json",
                          "timeout --preserve-status --signal=INT 1 ");
  EXPECT_EQ(ended.exit_code, 130) << ended.errors;
  EXPECT_TRUE(has(ended.errors, "larder: interrupted by SIGINT")) << ended.errors;
  const auto json = json_of(ended);
  EXPECT_EQ(json["requests"], 1);
  EXPECT_EQ(json["interrupted_by"], "a signal");
  EXPECT_EQ(json["ok"], false);
}

TEST_F(LarderTest, WrongUsageOfL1ExitsWith2AndSaysWhatIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"replay " + trace_, "SPEC is required; without it, give --l1 SIZE"},
      {"replay " + trace_ + kMemory + kMemory, "several SPECs need --l1 SIZE"},
      {"replay " + trace_ + kMemory + "--policy LRU", "--l1"},
      {"replay " + trace_ + kMemory + "--ranks 2", "--l1"},
      {"replay " + trace_ + " --l1 1MiB --concurrency 2", "excludes"},
      {"replay " + trace_ + " --l1 1MiB --policy LUR", "did you mean 'LRU'?"},
      {"replay " + trace_ + " --l1 1MiB --promote all", "expected none, retain or second_hit"},
      {"replay " + trace_ + " --l1 1MiB --ranks 0", "--ranks"},
      {"replay " + trace_ + " --l1 1MiB --ranks 3", "expected a multiple of --ranks"},
      {"replay " + trace_ + " --l1 4KiB", "expected room for one block"},
      {"replay " + trace_ + " --l1 0", "0 bytes"},
      {"replay " + trace_ + kMemory + "--l1 1MiB --sizes-only", "leave SPEC out"},
      {"replay " + trace_ + " 'memroy:' --l1 1MiB", "memory"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 2) << arguments;
    EXPECT_TRUE(has(ended.errors, expected)) << arguments << "\n" << ended.errors;
    EXPECT_EQ(ended.output, "") << arguments;
  }
}

TEST_F(LarderTest, TheSizesHaveAPlotThatFitsWhereItGoes) {
  const auto is_plain = [](const std::string& text) {
    return std::ranges::all_of(text, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); });
  };
  // Into a pipe: 80 columns, without colours whatever the environment says.
  const Ended plain = run("size " + trace_, "LC_ALL=C NO_COLOR=1 TERM=xterm-256color ");
  EXPECT_TRUE(has(plain.output, "hit rate by capacity\n  # LRU and ARC")) << plain.output;
  EXPECT_TRUE(is_plain(plain.output)) << plain.output;
  const Ended blocks = run("size " + trace_, "LC_ALL=C.UTF-8 ");
  EXPECT_TRUE(has(blocks.output, "█ LRU and ARC")) << blocks.output;
  EXPECT_FALSE(has(blocks.output, "\x1b")) << blocks.output;
  EXPECT_FALSE(has(run("size " + trace_ + " --json").output, "LRU and ARC"));
}

}  // namespace
}  // namespace larder::cli
