#include "larder/tools/format_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "larder/base/logging.h"
#include "larder/connectors/builtin.h"
#include "tests/support/temporary_directory.h"

namespace larder::tools {
namespace {

class FormatStoreTest : public ::testing::Test {
 protected:
  FormatStoreTest() {
    set_log_level(LogLevel::kOff);
    options_.is_quiet = true;
    options_.target = "log:" + path_ + "?capacity=32MiB&segment=1MiB&max_value=64KiB&min_free=0";
  }
  std::string run() {
    const auto text = format_store(options_, is_stop_requested_);
    error_ = text ? SetupError{} : text.error();
    return text ? *text : "";
  }
  void expect_refused(const std::string& target, const std::string& capacity,
                      const std::string& part) {
    options_.target = target;
    options_.capacity = capacity;
    EXPECT_EQ(run(), "");
    EXPECT_EQ(error_.code, ErrorCode::kInvalidArgument) << target;
    EXPECT_NE(error_.text.find(part), std::string::npos) << error_.text;
    EXPECT_FALSE(std::filesystem::exists(path_));
  }

  testing::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/parent/it's a store";
  FormatOptions options_;
  std::atomic<bool> is_stop_requested_ = false;
  SetupError error_;
};

TEST_F(FormatStoreTest, ASpecIsMadeAndTheOneThatIsPrintedOpensIt) {
  const std::string text = run();
  EXPECT_EQ(error_.text, "");
  EXPECT_NE(text.find("32 segments of 1 MiB"), std::string::npos) << text;
  const std::size_t at = text.find("use it as: ");
  ASSERT_NE(at, std::string::npos) << text;
  std::string spec = text.substr(at + 11);
  spec.pop_back();
  const auto connector = builtin_registry().open(spec);
  ASSERT_TRUE(connector.has_value()) << connector.error().text;
  EXPECT_EQ((*connector)->report().health, Health::kHealthy);
  EXPECT_TRUE((*connector)->stop(kNever).has_value());
}

TEST_F(FormatStoreTest, ADirectoryIsMadeWithACapacity) {
  options_.target = path_;
  options_.capacity = "64GiB";
  options_.is_json = true;
  const auto made = nlohmann::json::parse(run(), nullptr, false);
  ASSERT_TRUE(made.is_object()) << error_.text;
  EXPECT_EQ(made["directory"], path_);
  EXPECT_EQ(made["capacity_bytes"], std::uint64_t{64} << 30);
  EXPECT_EQ(made["segment_count"], 127);
  EXPECT_EQ(made["prefilled_bytes"], 0);
}

TEST_F(FormatStoreTest, ACapacityBeyondTheFreeSpaceIsNoted) {
  options_.target = "log:" + path_ + "?capacity=10000TiB";
  const std::string text = run();
  EXPECT_NE(text.find("not going to grow to its capacity"), std::string::npos)
      << text << error_.text;
}

TEST_F(FormatStoreTest, PrefillingAndReplacingAreTold) {
  ASSERT_NE(run(), "");
  EXPECT_EQ(run(), "");
  EXPECT_EQ(error_.code, ErrorCode::kUnavailable);
  EXPECT_NE(error_.text.find("--force"), std::string::npos) << error_.text;
  options_.is_forced = options_.is_prefilled = true;
  EXPECT_NE(run().find("wrote every segment once (30 MiB)"), std::string::npos) << error_.text;
  EXPECT_NE(run().find("replaced a store of 32 segments"), std::string::npos) << error_.text;
}

TEST_F(FormatStoreTest, WhatIsWrongWithTheWordsIsSaid) {
  expect_refused(path_, "", "Add --capacity");
  expect_refused("log:" + path_ + "?capacity=1TiB", "1GiB", "a spec has it itself");
  expect_refused("memory:?capacity=1GiB", "", "'memory' needs no store to be made");
  expect_refused("log:" + path_ + "?capacty=1GiB", "", "capacity");
  expect_refused("log:" + path_, "", "capacity");
}

TEST_F(FormatStoreTest, ANewStoreInPlaceOfOneThatIsThereNeedsItsCapacityAgain) {
  ASSERT_NE(run(), "");
  options_.is_forced = true;
  for (const std::string& target : {path_, "log:" + path_}) {
    options_.target = target;
    EXPECT_EQ(run(), "");
    EXPECT_EQ(error_.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(error_.text.find("how large?"), std::string::npos) << error_.text;
    EXPECT_NE(error_.text.find("--force"), std::string::npos) << error_.text;
  }
  EXPECT_NE(error_.text.find("?capacity=200GiB' --force"), std::string::npos) << error_.text;
}

TEST_F(FormatStoreTest, ASignalEndsPrefillingWithAGoodStore) {
  options_.is_prefilled = true;
  is_stop_requested_ = true;
  EXPECT_EQ(run(), "");
  EXPECT_EQ(error_.code, ErrorCode::kCancelled);
  EXPECT_NE(error_.text.find("interrupted after 1 of 32"), std::string::npos) << error_.text;
  EXPECT_TRUE(std::filesystem::exists(path_ + "/superblock"));
}

}  // namespace
}  // namespace larder::tools
