#include "larder/tools/foreign_keys.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/bench.h"
#include "larder/tools/replay.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

/// Each in its own directory below `root`, if it needs one.
std::vector<std::string> specs(const std::string& root) {
  return {"memory:?capacity=64MiB", "fault:?inner=memory:%3Fcapacity%3D64MiB",
          "log:" + root + "/log?capacity=64MiB&segment=1MiB&max_value=128KiB&min_free=0",
          "fs:" + root + "/files?max_capacity_gb=1"};
}

SetupStatus check(Connector& connector, std::string_view own_prefix) {
  return check_no_foreign_keys(connector, own_prefix, "a replay", kNoStop);
}

TEST(ForeignKeysTest, AnEmptyStoreAndOwnKeysAreWellAndOneOtherKeyIsNot) {
  const testing::TemporaryDirectory directory;
  for (const std::string& spec : specs(directory.path())) {
    const auto connector = builtin_registry().open(spec);
    ASSERT_TRUE(connector.has_value()) << connector.error().text;
    BlockingClient client{**connector};
    const std::vector<std::byte> value(1000);
    EXPECT_TRUE(check(**connector, "replay/")) << spec;
    EXPECT_TRUE(check(**connector, "")) << spec;
    for (int i = 0; i < 30; ++i) {
      ASSERT_TRUE(client.set("replay/" + std::to_string(i), value).has_value());
    }
    EXPECT_TRUE(check(**connector, "replay/")) << spec;
    EXPECT_FALSE(check(**connector, "")) << spec;
    ASSERT_TRUE(client.set("llama\n@00ff", value).has_value());
    const auto refused = check(**connector, "replay/");
    ASSERT_FALSE(refused.has_value()) << spec;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().text.find("such as 'llama\\x0a@00ff'), which a replay may push out"),
              std::string::npos)
        << refused.error().text;
    EXPECT_NE(refused.error().text.find("--allow-eviction"), std::string::npos);
    ASSERT_TRUE((*connector)->stop(kNever).has_value());
  }
}

TEST(ForeignKeysTest, NeitherAReplayNorABenchmarkTouchesAStoreOfOthers) {
  const testing::TemporaryDirectory directory;
  const std::string trace = directory.path() + "/trace.jsonl";
  std::ofstream{trace} << R"({"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[1]})"
                       << "\n";
  const std::string spec = specs(directory.path())[2];
  const auto keys = [&] {
    const auto connector = builtin_registry().open(spec);
    EXPECT_TRUE(connector.has_value());
    const std::uint64_t count = (*connector)->report().keys;
    EXPECT_TRUE((*connector)->stop(kNever).has_value());
    return count;
  };
  {
    const auto connector = builtin_registry().open(spec);
    ASSERT_TRUE(connector.has_value()) << connector.error().text;
    BlockingClient client{**connector};
    const std::vector<std::byte> value(1000);
    ASSERT_TRUE(client.set("llama@00ff", value).has_value());
    ASSERT_TRUE((*connector)->stop(kNever).has_value());
  }
  ReplayOptions replay_options;
  replay_options.trace_path = trace;
  replay_options.spec = spec;
  replay_options.is_quiet = true;
  const auto replayed = replay(replay_options, kNoStop);
  ASSERT_FALSE(replayed.has_value());
  EXPECT_NE(replayed.error().text.find("which a replay may push out"), std::string::npos)
      << replayed.error().text;
  BenchOptions bench_options;
  bench_options.spec = spec;
  bench_options.value_bytes = {65536};
  bench_options.bytes = 1U << 20;
  bench_options.is_quiet = true;
  const auto benched = bench(bench_options, kNoStop);
  ASSERT_FALSE(benched.has_value());
  EXPECT_NE(benched.error().text.find("which a benchmark may push out"), std::string::npos)
      << benched.error().text;
  EXPECT_EQ(keys(), 1U);
  replay_options.allow_eviction = true;
  ASSERT_TRUE(replay(replay_options, kNoStop).has_value());
  EXPECT_EQ(keys(), 2U);
}

TEST(ForeignKeysTest, AServerThatEvictsByItselfIsRefused) {
  auto server = testing::RedisServer::create();
  if (!server) GTEST_SKIP() << "SKIPPED (needs redis-server)";
  (*server)->command({"SET", "llama@00ff", "a value"});
  const std::string spec = "redis://127.0.0.1:" + std::to_string((*server)->port());
  const auto check_anew = [&] {
    const auto connector = builtin_registry().open(spec);
    EXPECT_TRUE(connector.has_value());
    const SetupStatus status = check(**connector, "replay/");
    EXPECT_TRUE((*connector)->stop(kNever).has_value());
    return status ? std::string{} : status.error().text;
  };
  EXPECT_EQ(check_anew(), "");  // When full, it refuses stores, and its content stays.
  (*server)->command({"CONFIG", "SET", "maxmemory", "1gb"});
  EXPECT_EQ(check_anew(), "");
  (*server)->command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  const std::string text = check_anew();
  EXPECT_NE(text.find("(maxmemory-policy allkeys-lru)"), std::string::npos) << text;
  EXPECT_NE(text.find("a replay may push them out"), std::string::npos) << text;
  EXPECT_NE(text.find("--allow-eviction"), std::string::npos) << text;
  (*server)->command({"FLUSHALL"});
  EXPECT_EQ(check_anew(), "") << "nobody has keys there";
  (*server)->kill();
  EXPECT_EQ(check_anew(), "");
}

TEST(ForeignKeysTest, AReplayFindsWhatAnEarlierOneLeft) {
  const testing::TemporaryDirectory directory;
  const std::string trace = directory.path() + "/trace.jsonl";
  std::ofstream{trace} << R"({"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[1]})"
                       << "\n";
  ReplayOptions options;
  options.trace_path = trace;
  options.spec = specs(directory.path())[2];
  options.is_quiet = true;
  ASSERT_TRUE(replay(options, kNoStop).has_value());
  const auto again = replay(options, kNoStop);
  ASSERT_TRUE(again.has_value()) << again.error().text;
  EXPECT_EQ(again->keys_at_start, 1U);
  EXPECT_EQ(again->hit.blocks, 1U);
  EXPECT_NE(to_text(options, *again).find("1 key was there at the start, of an earlier run"),
            std::string::npos);
}

}  // namespace
}  // namespace larder::tools
