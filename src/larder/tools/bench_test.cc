#include "larder/tools/bench.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "larder/base/size_text.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/connectors_list.h"
#include "larder/tools/disk_stats.h"
#include "larder/tools/fio_runner.h"
#include "larder/tools/progress.h"
#include "larder/tools/workload.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

const std::atomic<bool> kNoStop = false;

std::vector<std::byte> copy_of(std::span<const Slice> slices) {
  std::vector<std::byte> bytes;
  for (const Slice& slice : slices) bytes.insert(bytes.end(), slice.data, slice.data + slice.bytes);
  return bytes;
}
void put(std::span<const std::byte> bytes, std::span<const Slice> slices) {
  for (const Slice& slice : slices) {
    std::copy_n(bytes.begin(), slice.bytes, slice.data);
    bytes = bytes.subspan(slice.bytes);
  }
}

constexpr const char* kFioOutput = R"(fio: a note before the object
{ "fio version" : "fio-3.33", "jobs" : [ { "jobname" : "ceiling", "error" : 0,
  "job_runtime" : 4000, "usr_cpu" : 2.5, "sys_cpu" : 7.5,
  "read" : { "io_bytes" : 2000000000, "runtime" : 1000,
             "clat_ns" : { "percentile" : { "50.000000" : 120000, "99.000000" : 900000 } } },
  "write" : { "io_bytes" : 0, "runtime" : 0, "clat_ns" : {} } } ] })";

TEST(FioTest, ReadsItsOutput) {
  const auto result = parse_fio_json(kFioOutput);
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->bytes, 2'000'000'000U);
  EXPECT_DOUBLE_EQ(result->gb_per_second, 2.0);
  EXPECT_DOUBLE_EQ(result->cpu_seconds, 0.4);
  EXPECT_EQ(result->latency_p50_ns, 120'000U);
  EXPECT_EQ(result->latency_p99_ns, 900'000U);
}

TEST(FioTest, RefusesOutputThatIsNoResult) {
  std::string failed = kFioOutput;
  failed.replace(failed.find("\"error\" : 0"), 11, "\"error\" : 5");
  std::string idle = kFioOutput;
  idle.replace(idle.find("2000000000"), 10, "0");
  std::string lacking = kFioOutput;
  lacking.replace(lacking.find("usr_cpu"), 7, "usr_xxx");
  const std::pair<std::string, std::string> cases[] = {{"", "not JSON"},
                                                       {"fio: no space", "not JSON"},
                                                       {"{", "not JSON"},
                                                       {"{\"jobs\":[]}", "exactly one group"},
                                                       {failed, "Input/output error"},
                                                       {idle, "transferred nothing"},
                                                       {lacking, "lacks a field"}};
  for (const auto& [text, expected] : cases) {
    const auto result = parse_fio_json(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().text.find(expected), std::string::npos) << result.error().text;
  }
}

TEST(FioTest, AStopLeavesNoFioBehind) {
  const testing::TemporaryDirectory directory;
  const std::string fio = directory.path() + "/fio";
  std::ofstream{fio} << "#!/bin/sh\nexec sleep 600\n";
  ASSERT_EQ(::chmod(fio.c_str(), 0755), 0);
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", (directory.path() + ":" + path).c_str(), 1);
  const std::atomic<bool> stop = true;
  const auto result =
      run_fio(FioJob{.engine = {"psync", 1, 1}, .block_bytes = 4096}, "/none", stop);
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text.find("interrupted"), std::string::npos) << result.error().text;
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST(FioTest, ThreadsShareThePartWithoutOverlap) {
  FioJob job;
  job.engine = {"psync", 4, 1};
  job.block_bytes = 65536;
  job.offset = 1 << 20;
  job.bytes = 655360;
  const auto arguments = fio_arguments(job, "/a:b/file");
  const auto has = [&](const std::string& argument) {
    return std::find(arguments.begin(), arguments.end(), argument) != arguments.end();
  };
  EXPECT_TRUE(has("--filename=/a\\:b/file"));
  EXPECT_TRUE(has("--size=131072"));
  EXPECT_TRUE(has("--offset_increment=131072"));
  EXPECT_TRUE(has("--offset=1048576"));
  EXPECT_TRUE(has("--numjobs=4"));
  EXPECT_TRUE(has("--rw=randread"));
}

TEST(FioTest, CandidatesFitIntoTheBytes) {
  EXPECT_EQ(fio_candidates(65536, std::uint64_t{1} << 30).size(), 9U);
  for (const FioEngine& engine : fio_candidates(32 << 20, std::uint64_t{1} << 28)) {
    EXPECT_LE(engine.jobs * engine.depth, 8U) << engine.label();
  }
}

TEST(FioFileTest, HasItsWholeSizeAndNoNameThatCouldBeLeftBehind) {
  std::string directory = ::testing::TempDir() + "/larder_fio_XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  std::string path;
  {
    const auto file = FioFile::create(directory, 1 << 20, FioFile::State::kWritten);
    ASSERT_TRUE(file) << file.error().text;
    path = file->path();
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_size, 1 << 20);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_TRUE(std::filesystem::is_empty(directory));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  const auto too_large =
      FioFile::create(directory, std::uint64_t{1} << 60, FioFile::State::kWritten);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, ErrorCode::kResourceExhausted);
  std::filesystem::remove_all(directory);
}

TEST(ValueBuffersTest, AValueIsRecognisedAndNoOtherIs) {
  for (const std::uint32_t slices : {1U, 3U}) {
    for (const std::uint32_t unaligned : {0U, 13U}) {
      const WorkloadShape shape{
          .value_bytes = 50'001, .slices = slices, .unaligned_bytes = unaligned};
      auto stores = ValueBuffers::create(shape, 4, true);
      auto loads = ValueBuffers::create(shape, 2, false);
      ASSERT_TRUE(stores && loads);
      stores->stamp(3, 77);
      EXPECT_EQ(stores->slices(3).size(), slices);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(stores->slices(3)[0].data) % 4096, unaligned);
      const auto value = copy_of(stores->slices(3));
      ASSERT_EQ(value.size(), 50'001U);
      put(value, loads->slices(0));
      EXPECT_TRUE(loads->is_stamped_with(0, 77));
      EXPECT_TRUE(loads->holds_value_of(0, 77));
      EXPECT_FALSE(loads->is_stamped_with(0, 78));
      for (std::size_t at = 0; at < value.size(); at += 997) {
        auto damaged = value;
        damaged[at] ^= std::byte{1};
        put(damaged, loads->slices(0));
        EXPECT_FALSE(loads->holds_value_of(0, 77)) << at;
      }
    }
  }
}

TEST(ValueBuffersTest, TwoKeysFromOneBufferDifferInEveryBlock) {
  auto stores = ValueBuffers::create({.value_bytes = 65536}, 1, true);
  ASSERT_TRUE(stores);
  stores->stamp(0, 1);
  const auto first = copy_of(stores->slices(0));
  stores->stamp(0, 2);
  const auto second = copy_of(stores->slices(0));
  for (std::size_t at = 0; at < first.size(); at += 4096) {
    EXPECT_FALSE(std::equal(first.begin() + static_cast<std::ptrdiff_t>(at),
                            first.begin() + static_cast<std::ptrdiff_t>(at + 4096),
                            second.begin() + static_cast<std::ptrdiff_t>(at)));
  }
}

TEST(ValueBuffersTest, SlicesThatAreTooSmallAreRefused) {
  EXPECT_FALSE(ValueBuffers::create({.value_bytes = 640, .slices = 11}, 1, true));
  EXPECT_TRUE(ValueBuffers::create({.value_bytes = 640, .slices = 10}, 1, true));
}

TEST(SpreadTest, MedianAndQuartilesAreInterpolated) {
  const Spread spread = spread_of({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(spread.lower, 1.75);
  EXPECT_DOUBLE_EQ(spread.median, 2.5);
  EXPECT_DOUBLE_EQ(spread.upper, 3.25);
  EXPECT_DOUBLE_EQ(spread_of({5}).median, 5);
  EXPECT_DOUBLE_EQ(spread_of({}).median, 0);
}

BenchOptions small_bench(BenchMode mode) {
  BenchOptions options;
  options.spec = "memory:?capacity=64MiB";
  options.mode = mode;
  options.value_bytes = {64 << 10};
  options.bytes = 8 << 20;
  options.pairs = 3;
  options.is_quiet = true;
  return options;
}

BenchResult run_bench(const BenchOptions& options) {
  auto result = bench(options, kNoStop);
  EXPECT_TRUE(result) << result.error().text;
  return result ? std::move(*result) : BenchResult{};
}

TEST(BenchTest, LoadReturnsEveryByteOnceBesideMemcpy) {
  const BenchResult result = run_bench(small_bench(BenchMode::kLoad));
  EXPECT_TRUE(result.is_good());
  ASSERT_EQ(result.series.size(), 1U);
  const BenchSeries& series = result.series[0];
  EXPECT_EQ(series.ceiling, "memcpy, 1 thread");
  ASSERT_EQ(series.pairs.size(), 3U);
  for (const BenchPair& pair : series.pairs) {
    EXPECT_EQ(pair.ours.bytes_loaded, std::uint64_t{8} << 20);
    EXPECT_EQ(pair.ours.batch_ns.count(), 8U);
    ASSERT_TRUE(pair.ceiling);
    EXPECT_GT(pair.ceiling->gb_per_second, 0);
  }
  ASSERT_TRUE(series.ratio());
  EXPECT_GT(series.ratio()->median, 0);
}

TEST(BenchTest, TheBytesThatWereAskedForAreWhatIsMeasured) {
  BenchOptions options = small_bench(BenchMode::kLoad);
  for (const std::uint64_t bytes : {std::uint64_t{1} << 20, std::uint64_t{65536}}) {
    options.bytes = bytes;  // Less than one batch of 16 values.
    const BenchResult result = run_bench(options);
    EXPECT_TRUE(result.is_good());
    EXPECT_EQ(result.series.at(0).bytes_per_pass, bytes);
    for (const BenchPair& pair : result.series.at(0).pairs) {
      EXPECT_EQ(pair.ours.bytes_loaded, bytes);
    }
  }
  options.bytes = 65537;  // In whole values.
  EXPECT_EQ(run_bench(options).series.at(0).bytes_per_pass, 131072U);
}

TEST(BenchTest, BytesThatTheStoreHasNoRoomForAreRefusedAndTheAdviceWorks) {
  BenchOptions options = small_bench(BenchMode::kMixed);
  options.bytes = 60 << 20;
  const auto refused = bench(options, kNoStop);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  const std::string& text = refused.error().text;
  EXPECT_NE(text.find("--bytes 60MiB: with --mode mixed a pass over a store of "),
            std::string::npos)
      << text;
  const std::string before = "has room for ";
  const std::size_t at = text.find(before) + before.size();
  const auto room = parse_bytes(text.substr(at, text.find(';', at) - at));
  ASSERT_TRUE(room.has_value()) << text;
  options.bytes = *room;
  options.pairs = 1;
  EXPECT_TRUE(run_bench(options).is_good());
}

TEST(ProgressTest, ALineNeverReachesTheLastColumn) {
  const std::string title = "load 1MiB, pair 3 of 7";
  for (std::size_t columns = 0; columns < 200; ++columns) {
    for (const double share : {0.0, 0.5, 1.0}) {
      const std::string line = progress_line(title, share, "2.71 GB/s", columns);
      EXPECT_LE(line.size(), columns > 0 ? columns - 1 : 0) << columns;
      EXPECT_TRUE(line.find('\n') == std::string::npos);
    }
  }
  EXPECT_EQ(progress_line(title, 0.5, "2.71 GB/s", 120),
            title + " [###############...............]  50 %  2.71 GB/s");
  EXPECT_EQ(progress_line(title, 0.5, "2.71 GB/s", 50), title + " [###....]  50 %  2.71 GB/s");
  EXPECT_EQ(progress_line(title, 0.5, "2.71 GB/s", 43), title + "  50 %  2.71 GB/s");
  EXPECT_EQ(progress_line(title, 0.5, "2.71 GB/s", 30), title + "  50 % ");
}

TEST(BenchTest, SlicesAndUnalignedBuffersCarryTheSameBytes) {
  BenchOptions options = small_bench(BenchMode::kLoad);
  options.slices = 16;
  options.unaligned_bytes = 7;
  const BenchResult result = run_bench(options);
  EXPECT_TRUE(result.is_good());
  EXPECT_EQ(result.series[0].pairs.at(0).ours.bytes_loaded, std::uint64_t{8} << 20);
}

TEST(BenchTest, StoreInSteadyStateMeasuresAStoreThatEvicts) {
  BenchOptions options = small_bench(BenchMode::kStore);
  options.spec = "memory:?capacity=16MiB";
  options.bytes = 4 << 20;
  const BenchResult result = run_bench(options);
  EXPECT_TRUE(result.is_good());
  const BenchSeries& series = result.series.at(0);
  EXPECT_EQ(series.pairs.at(2).ours.bytes_stored, std::uint64_t{4} << 20);
  EXPECT_GT(series.counters.at("evictions_total"), 0U);
}

TEST(BenchTest, FirstTurnStoresIntoAFreshStoreWithoutEviction) {
  BenchOptions options = small_bench(BenchMode::kStore);
  options.is_first_turn = true;
  const BenchResult result = run_bench(options);
  EXPECT_TRUE(result.is_good());
  EXPECT_EQ(result.series.at(0).counters.at("evictions_total"), 0U);
  options.value_bytes.push_back(1 << 20);
  EXPECT_FALSE(bench(options, kNoStop)) << "a second size would not find a fresh store";
}

TEST(BenchTest, MixedExistsAndLatencyMeasureWhatTheySay) {
  const BenchResult mixed = run_bench(small_bench(BenchMode::kMixed));
  EXPECT_TRUE(mixed.is_good());
  std::uint64_t loaded = 0;
  std::uint64_t stored = 0;
  for (const BenchPair& pair : mixed.series.at(0).pairs) {
    loaded += pair.ours.bytes_loaded;
    stored += pair.ours.bytes_stored;
  }
  EXPECT_EQ(loaded + stored, std::uint64_t{24} << 20);
  EXPECT_GT(loaded, 0U);

  BenchOptions options = small_bench(BenchMode::kExists);
  options.with_stores = true;
  options.value_bytes = {4 << 10};  // A store goes beside each batch of 200,000 lookups.
  options.bytes = 512 << 10;
  options.pairs = 1;
  const BenchResult exists = run_bench(options);
  EXPECT_TRUE(exists.is_good());
  EXPECT_EQ(exists.series.at(0).pairs.at(0).ours.keys, 200'000U);
  EXPECT_TRUE(exists.series.at(0).ceiling.empty());

  const BenchResult latency = run_bench(small_bench(BenchMode::kLatency));
  EXPECT_EQ(latency.options.batch, 1U);
  EXPECT_EQ(latency.series.at(0).pairs.at(0).ours.batch_ns.count(), 128U);
}

TEST(BenchTest, WrongBytesAndFailuresMakeItBad) {
  BenchOptions options = small_bench(BenchMode::kLoad);
  options.spec =
      R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},"corrupt_rate":1,"pattern":"get:*"})";
  const BenchResult corrupt = run_bench(options);
  EXPECT_FALSE(corrupt.is_good());
  EXPECT_GT(corrupt.series.at(0).pairs.at(0).ours.mismatches, 0U);
  EXPECT_NE(to_text(corrupt).find("WRONG BYTES"), std::string::npos);
  options.spec =
      R"({"type":"fault","inner":{"type":"memory","capacity":"64MiB"},"error_rate":0.5,"pattern":"get:*"})";
  const BenchResult failing = run_bench(options);
  EXPECT_FALSE(failing.is_good());
  EXPECT_GT(failing.series.at(0).pairs.at(0).ours.failed, 0U);
}

TEST(BenchTest, AStoreThatRefusesOrFailsEverythingIsBadAndTheCauseIsTold) {
  const std::pair<std::string, std::string> cases[] = {
      {"mock:?max_size_gb=0.000001&mock_bandwidth_gb=1000", "mock: it is full, and evicts nothing"},
      {R"({"type":"fault","inner":"memory:?capacity=64MiB","error_rate":1,"pattern":"set:*"})",
       "fault: "}};
  for (const auto& [spec, cause] : cases) {
    for (const BenchMode mode : {BenchMode::kLoad, BenchMode::kStore, BenchMode::kExists}) {
      BenchOptions options = small_bench(mode);
      options.spec = spec;
      options.bytes = 0;
      options.is_first_turn = mode == BenchMode::kStore;
      const BenchResult result = run_bench(options);
      EXPECT_FALSE(result.is_good()) << spec;
      EXPECT_NE(to_text(result).find(cause), std::string::npos) << to_text(result);
      EXPECT_EQ(nlohmann::json::parse(to_json(result))["ok"], false);
    }
  }
}

TEST(BenchTest, AMissedGoalIsBadAndAReachedOneIsGood) {
  BenchOptions options = small_bench(BenchMode::kLoad);
  options.goal = 1e9;
  const BenchResult missed = run_bench(options);
  EXPECT_FALSE(missed.is_good());
  EXPECT_TRUE(missed.is_goal_missed);
  options.goal = 1e-9;
  EXPECT_TRUE(run_bench(options).is_good());
}

TEST(BenchTest, SettingsThatCannotWorkAreRefused) {
  BenchOptions options = small_bench(BenchMode::kLoad);
  options.value_bytes = {std::uint64_t{2} << 30};
  EXPECT_EQ(bench(options, kNoStop).error().code, ErrorCode::kInvalidArgument);
  options = small_bench(BenchMode::kLoad);
  options.slices = 1 << 20;
  EXPECT_EQ(bench(options, kNoStop).error().code, ErrorCode::kInvalidArgument);
}

TEST(BenchTest, ARefusedSettingMakesNoStore) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/made/store";
  for (const std::string& spec :
       {"log:" + path + "?capacity=512MiB&max_value=1MiB", "fs:" + path + "?max_value=1MiB"}) {
    const auto expect_nothing_made = [&](const BenchOptions& options) {
      const auto refused = bench(options, kNoStop);
      ASSERT_FALSE(refused.has_value()) << spec;
      EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().text;
      EXPECT_FALSE(std::filesystem::exists(directory.path() + "/made")) << refused.error().text;
    };
    BenchOptions options = small_bench(BenchMode::kLoad);
    options.spec = spec;
    options.value_bytes = {65536, 2 << 20};
    expect_nothing_made(options);
    options.value_bytes = {65536};
    options.slices = 1 << 16;
    expect_nothing_made(options);
    options.slices = 1;
    options.mode = BenchMode::kStore;
    options.is_first_turn = true;
    options.value_bytes = {65536, 131072};
    expect_nothing_made(options);
    options.value_bytes = {65536};
    options.bytes = std::uint64_t{1} << 40;
    if (spec.starts_with("log:")) expect_nothing_made(options);  // fs: has no bound.
  }
}

TEST(BenchTest, AStopEndsWithWholePairs) {
  const std::atomic<bool> stop = true;
  const auto result = bench(small_bench(BenchMode::kLoad), stop);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->interrupted_by, "a signal");
}

TEST(BenchTest, TheJsonIsOneObjectWithEveryPair) {
  const BenchResult result = run_bench(small_bench(BenchMode::kLoad));
  const auto json = nlohmann::json::parse(to_json(result), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["series"][0]["pairs"].size(), 3U);
  EXPECT_EQ(json["series"][0]["value_bytes"], 65536);
  EXPECT_FALSE(json["machine"]["kernel"].get<std::string>().empty());
}

TEST(BenchTest, ARedisServerIsHeldAgainstARawClientThatLeavesNothing) {
  testing::RedisServerOptions with_password;
  with_password.password = "secret";
  auto server = testing::RedisServer::create(with_password);
  if (!server && server.error().code == ErrorCode::kUnimplemented) {
    GTEST_SKIP() << "SKIPPED (needs " << server.error().text << ")";
  }
  ASSERT_TRUE(server) << server.error().text;
  for (const BenchMode mode : {BenchMode::kLoad, BenchMode::kStore, BenchMode::kLatency}) {
    for (const std::uint64_t value_bytes : {64U, 100U, 70'000U}) {
      BenchOptions options = small_bench(mode);
      options.spec = "redis://localhost:" + std::to_string((*server)->port()) +
                     "/1?connections=3&password=secret";
      options.value_bytes = {value_bytes};
      options.bytes = 64 * value_bytes;
      const BenchResult result = run_bench(options);
      EXPECT_TRUE(result.is_good());
      ASSERT_EQ(result.series.size(), 1U);
      EXPECT_TRUE(result.series.front().ratio().has_value());
      EXPECT_EQ(to_text(result).find("secret"), std::string::npos);
      EXPECT_EQ(to_json(result).find("secret"), std::string::npos);
      ASSERT_EQ((*server)->command({"SELECT", "1"}), "OK");
      EXPECT_EQ((*server)->command({"DBSIZE"}), "0");
    }
  }
}

TEST(ConnectorsListTest, TextMarkdownAndJsonNameEveryTypeAndParameter) {
  const auto text = list_connectors(builtin_registry(), "", ListFormat::kText);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("memory"), std::string::npos);
  const auto one = list_connectors(builtin_registry(), "memory", ListFormat::kText);
  ASSERT_TRUE(one);
  EXPECT_NE(one->find("capacity"), std::string::npos);
  const auto markdown = list_connectors(builtin_registry(), "", ListFormat::kMarkdown);
  ASSERT_TRUE(markdown);
  EXPECT_NE(markdown->find("capacity"), std::string::npos);
  const auto json = list_connectors(builtin_registry(), "memory", ListFormat::kJson);
  ASSERT_TRUE(json);
  EXPECT_EQ(nlohmann::json::parse(*json)["types"][0]["name"], "memory");
}

TEST(ConnectorsListTest, AnUnknownTypeNamesTheNearest) {
  const auto text = list_connectors(builtin_registry(), "memry", ListFormat::kText);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().text.find("did you mean \"memory\"?"), std::string::npos)
      << text.error().text;
}

}  // namespace
}  // namespace larder::tools
