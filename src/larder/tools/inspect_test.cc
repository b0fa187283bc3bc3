#include "larder/tools/inspect.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "larder/base/logging.h"
#include "larder/base/random.h"
#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "larder/tools/inspect_report.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

using nlohmann::json;

constexpr std::size_t kValueBytes = 61'000;

class InspectTest : public ::testing::Test {
 protected:
  InspectTest() {
    set_log_level(LogLevel::kOff);
    options_.directory = directory_.path() + "/store";
    options_.is_quiet = true;
  }

  void make_store(int keys, bool is_killed = false) const {
    auto connector = builtin_registry().open("log:" + options_.directory +
                                             "?capacity=32MiB&segment=1MiB&max_value=64KiB"
                                             "&min_free=0");
    ASSERT_TRUE(connector.has_value()) << connector.error().text;
    BlockingClient client{**connector};
    std::vector<std::byte> value(kValueBytes);
    for (int i = 0; i < keys; ++i) {
      Random{static_cast<std::uint64_t>(i)}.fill(value);
      ASSERT_TRUE(client.set("key-" + std::to_string(i), value).has_value());
    }
    if (is_killed) ::kill(::getpid(), SIGKILL);
    ASSERT_TRUE((*connector)->stop(kNever).has_value());
  }
  /// By a process that ends by kill -9.
  void make_killed_store(int keys) const {
    const ::pid_t child = ::fork();
    if (child == 0) {
      make_store(keys, true);
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
  void remove_segment(const std::string& number) const {
    ASSERT_TRUE(std::filesystem::remove(options_.directory + "/segment-000000" + number));
  }
  /// What was printed. `is_well_`, `errors_` and `error_` have the rest.
  std::string run() {
    std::string text;
    errors_.clear();
    const auto is_well = inspect(
        options_,
        [&](std::string_view piece) {
          text += piece;
          if (pieces_left_ == 0) return true;
          --pieces_left_;
          return pieces_left_ > 0;
        },
        [&](std::string_view piece) {
          errors_ += piece;
          return true;
        },
        is_stop_requested_);
    error_ = is_well ? SetupError{} : is_well.error();
    is_well_ = is_well && *is_well;
    return text;
  }
  json run_json() {
    options_.is_json = true;
    const std::string text = run();
    json parsed = json::parse(text, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << text;
    return parsed;
  }
  void damage_value_of(const std::string& key) {
    const InspectOptions before = options_;
    options_.mode = InspectMode::kList;
    const json keys = run_json()["keys"];
    options_ = before;
    const auto found =
        std::ranges::find_if(keys, [&](const json& one) { return one["key"] == key; });
    ASSERT_NE(found, keys.end()) << key;
    char name[32];
    std::snprintf(name, sizeof(name), "/segment-%07u", (*found)["segment"].get<unsigned>());
    std::fstream file{options_.directory + name, std::ios::binary | std::ios::in | std::ios::out};
    file.seekp(static_cast<std::streamoff>((*found)["offset"].get<std::uint64_t>() + 4096 + 7));
    file.put('\x55');
    file.close();
    ASSERT_TRUE(file.good());
  }
  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  testing::TemporaryDirectory directory_;
  InspectOptions options_;
  std::atomic<bool> is_stop_requested_ = false;
  int pieces_left_ = 0;  // 0: all are taken.
  bool is_well_ = false;
  SetupError error_;
  std::string errors_;
};

TEST_F(InspectTest, TheSummaryAddsUp) {
  make_store(60);
  const json summary = run_json();
  EXPECT_TRUE(is_well_);
  EXPECT_EQ(summary["ok"], true);
  EXPECT_EQ(summary["keys"], 60);
  EXPECT_EQ(summary["value_bytes"], 60 * kValueBytes);
  EXPECT_EQ(summary["clean"], true);
  EXPECT_EQ(summary["open_count"], 1);
  EXPECT_EQ(summary["capacity_bytes"], 32U << 20);
  EXPECT_EQ(summary["live_bytes"], 60 * 16 * 4096);
  EXPECT_EQ(summary["dead_bytes"], 0);
  ASSERT_EQ(summary["sizes"].size(), 1U);
  EXPECT_EQ(summary["sizes"][0]["from_bytes"], 32768);
  EXPECT_EQ(summary["sizes"][0]["keys"], 60);
  ASSERT_EQ(summary["ages"].size(), 1U);
  EXPECT_EQ(summary["ages"][0]["up_to_seconds"], 60);
  std::uint64_t live = 0;
  for (const json& segment : summary["segments"]) {
    live += segment.value("live_records", std::uint64_t{0});
  }
  EXPECT_EQ(live, 60U);
  const std::uint64_t told = summary["live_bytes"].get<std::uint64_t>() +
                             summary["dead_bytes"].get<std::uint64_t>() +
                             summary["free_bytes"].get<std::uint64_t>();
  EXPECT_LE(told, 32U << 20);
  EXPECT_GT(told, 31U << 20);  // The rest: headers, tables, and the reserve of slots.
  EXPECT_FALSE(summary.contains("verified"));
}

TEST_F(InspectTest, TheTextShowsEachPartOfTheSummary) {
  make_store(60);
  options_.is_verified = true;
  const std::string text = run();
  EXPECT_TRUE(is_well_) << text;
  for (const char* const part :
       {"32 segments of 1 MiB", "opened 1 time, closed cleanly", "keys      60, 3.49 MiB",
        "space     live 3.75 MiB (11.7 %), dead 0 B", "from 32KiB", "up to 1 minute",
        "  sealed           14        14", "1.1", "open ", "all of them are what was stored"}) {
    EXPECT_TRUE(has(text, part)) << "'" << part << "' in:\n" << text;
  }
}

TEST_F(InspectTest, TheListHasEveryKeyOnceAndIsCutByPrefixAndLimit) {
  make_store(30);
  options_.mode = InspectMode::kList;
  const json listed = run_json();
  EXPECT_TRUE(is_well_);
  EXPECT_EQ(listed["ok"], true);
  const json all = listed["keys"];
  ASSERT_EQ(all.size(), 30U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i]["key"], "key-" + std::to_string(i));
    EXPECT_EQ(all[i]["bytes"], kValueBytes);
  }
  options_.prefix = "key-2";
  EXPECT_EQ(run_json()["keys"].size(), 11U);
  options_.limit = 4;
  EXPECT_EQ(run_json()["keys"].size(), 4U);
  options_.is_json = false;
  const std::string text = run();
  EXPECT_EQ(std::ranges::count(text, '\n'), 4);
  EXPECT_TRUE(has(text, " UTC  key-20\n")) << text;
  options_.limit = 0;
  EXPECT_EQ(run(), "");
  EXPECT_EQ(run_json()["keys"].size(), 0U);
}

TEST_F(InspectTest, ARemovedSegmentIsDamageAlsoWhereEveryRecordThatIsLeftIsWell) {
  for (const char* const number : {"0", "1", "2"}) {  // The first, one between, the last.
    make_store(40);
    remove_segment(number);
    options_.is_verified = true;
    options_.is_json = false;
    const std::string text = run();
    EXPECT_FALSE(is_well_) << number;
    EXPECT_TRUE(has(text, "1 segment file of ") && has(text, " went since the store was closed"))
        << text;
    const json summary = run_json();
    EXPECT_EQ(summary["ok"], false);
    EXPECT_EQ(summary["knows_files"], true);
    std::filesystem::remove_all(options_.directory);
  }
}

TEST_F(InspectTest, OfAKilledStoreItIsSaidWhatCannotBeTold) {
  make_killed_store(40);
  options_.is_verified = true;
  EXPECT_TRUE(has(run(), "not verified: whether segment files went"));
  EXPECT_TRUE(is_well_);
  remove_segment("1");
  const std::string text = run();
  EXPECT_TRUE(has(text, "no files have the numbers 1: larder gave them back")) << text;
  const json summary = run_json();
  EXPECT_EQ(summary["knows_files"], false);
  EXPECT_EQ(summary["missing_numbers"], json::array({1}));
  options_.is_json = false;
  std::filesystem::remove_all(options_.directory);
  make_store(40);
  EXPECT_FALSE(has(run(), "not verified"));
}

TEST_F(InspectTest, WhatAStoreRemembersIsShown) {
  make_store(1);
  EXPECT_TRUE(has(run(), "remembers capacity=32MiB, max_value=64KiB\n"));
  EXPECT_EQ(run_json()["max_value_bytes"], 65536);
}

TEST_F(InspectTest, KeysAreCountedByPrefix) {
  make_store(30);
  options_.mode = InspectMode::kCount;
  EXPECT_EQ(run(), "30\n");
  options_.prefix = "key-1";
  EXPECT_EQ(run(), "11\n");
  EXPECT_EQ(run_json()["keys"], 11);
  EXPECT_EQ(run_json()["ok"], true);
}

TEST_F(InspectTest, AValueIsDumpedAsItWasStored) {
  make_store(30);
  options_.mode = InspectMode::kDump;
  options_.key = "key-7";
  std::string expected(kValueBytes, '\0');
  Random{7}.fill(std::as_writable_bytes(std::span{expected}));
  EXPECT_TRUE(run() == expected);
  EXPECT_TRUE(is_well_);
  options_.key = "key\n";
  EXPECT_EQ(run(), "");
  EXPECT_EQ(error_.code, ErrorCode::kUnavailable);
  EXPECT_TRUE(has(error_.text, "no key 'key\\x0a'")) << error_.text;
}

TEST_F(InspectTest, DamageIsFoundByVerifyAloneAndNamedWithItsPlace) {
  make_store(30);
  damage_value_of("key-20");
  EXPECT_TRUE(run_json()["ok"]);
  options_.is_verified = true;
  const json summary = run_json();
  EXPECT_FALSE(is_well_);
  EXPECT_EQ(summary["ok"], false);
  EXPECT_EQ(summary["verified"]["records"], 30);
  EXPECT_EQ(summary["verified"]["damaged"], 1);
  ASSERT_EQ(summary["damage"].size(), 1U);
  EXPECT_EQ(summary["damage"][0]["key"], "key-20");
  EXPECT_EQ(summary["damage"][0]["segment"], 1);
  options_.is_json = false;
  const std::string text = run();
  EXPECT_TRUE(has(text, "1 is damaged")) << text;
  EXPECT_TRUE(has(text, "segment-0000001 at ")) << text;
  EXPECT_TRUE(has(text, ", key 'key-20': ")) << text;
  options_.mode = InspectMode::kDump;
  options_.key = "key-20";
  EXPECT_EQ(run(), "");
  EXPECT_EQ(error_.code, ErrorCode::kCorruption);
}

TEST_F(InspectTest, DamageOfTheStoreIsReportedWhateverIsAskedFor) {
  make_store(30);
  std::ofstream{options_.directory + "/evil\x1b[31m"} << "x";
  EXPECT_TRUE(has(run(), "evil\\x1b[31m"));
  EXPECT_FALSE(is_well_);
  options_.mode = InspectMode::kCount;
  EXPECT_EQ(run(), "30\n");
  EXPECT_FALSE(is_well_);
  EXPECT_TRUE(has(errors_, "larder: the directory holds 'evil\\x1b[31m'")) << errors_;
}

TEST_F(InspectTest, AnInterruptedVerificationIsNoGoodResult) {
  make_store(30);
  options_.is_verified = true;
  is_stop_requested_ = true;
  run();
  EXPECT_FALSE(is_well_);
  EXPECT_EQ(error_.code, ErrorCode::kCancelled);
}

TEST_F(InspectTest, AListEndsWhenNobodyTakesIt) {
  make_store(30);
  options_.mode = InspectMode::kList;
  pieces_left_ = 3;
  EXPECT_EQ(std::ranges::count(run(), '\n'), 3);
  EXPECT_FALSE(is_well_);
}

TEST_F(InspectTest, AgesFallIntoTheirBuckets) {
  InspectSummary summary;
  constexpr std::uint64_t kNow = 2'000'000'000;
  const auto add = [](InspectSummary& to, std::uint64_t value_bytes, std::uint64_t wall_seconds) {
    log_store::LiveRecord record;
    record.value_bytes = value_bytes;
    record.wall_seconds = wall_seconds;
    to.add(record, kNow);
  };
  for (const std::uint64_t age : {0U, 60U, 61U, 3'600U, 3'601U, 86'400U, 604'801U, 3'000'000U}) {
    add(summary, age, kNow - age);
  }
  add(summary, 1, kNow + 10);
  const std::array<std::uint64_t, 9> expected = {2, 1, 1, 1, 1, 0, 1, 1, 1};
  EXPECT_EQ(summary.ages, expected);
  EXPECT_EQ(summary.keys, 9U);
  EXPECT_EQ(summary.sizes[0], 1U);
  EXPECT_EQ(summary.sizes[1], 1U);
  EXPECT_EQ(summary.sizes[6], 2U);  // 60 and 61.
}

}  // namespace
}  // namespace larder::tools
