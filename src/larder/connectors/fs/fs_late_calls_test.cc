// Stores and deletes whose callers gave them up: their late effects on the files.

#include <gtest/gtest.h>

#include <cerrno>

#include "larder/connectors/fs/fs_test_support.h"

namespace larder::fs {
namespace {

constexpr std::uint64_t kHastyNs = 50'000'000;

// ---- One operation whose gate is closed
// --------------------------------------------------------------

class ClosedGateTest : public ::testing::TestWithParam<SetMode> {
 protected:
  void SetUp() override {
    FsOptions options;
    options.base_path = directory.path();
    options.capacity_bytes = std::uint64_t{1} << 20;
    auto opened = FileStore::open(options);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    store = std::move(*opened);
    store->inventory().counted();
    std::string ignored;
    closed.close(ignored);
  }
  Status run(Op op, const std::string& key, Bytes value, ChangeGate& gate) {
    Slice slice{value.data(), value.size()};
    Item item;
    item.key = std::as_bytes(std::span{key});
    if (op == Op::kSet) item.value = {&slice, 1};
    StagingBuffer staging;
    return store->run(op, item, {.set_mode = GetParam()}, staging, gate);
  }
  std::string path(const std::string& key) const {
    return directory.path() + "/" + file_name_of(key).text;
  }

  testing::TemporaryDirectory directory;
  std::unique_ptr<FileStore> store;
  ChangeGate open;
  ChangeGate closed;
};

TEST_P(ClosedGateTest, AStoreLeavesWhatIsThereAndNothingOfItsOwn) {
  const std::string hashed(900, 'x');
  for (const std::string& key : {std::string{"there"}, std::string{"absent"}, hashed}) {
    SCOPED_TRACE(key);
    const bool is_there = key == "there";
    if (is_there) {
      ASSERT_TRUE(run(Op::kSet, key, value_of(1), open).has_value());
    }
    const auto names = names_in(directory.path());
    const auto used = store->inventory().totals().bytes;
    const Status status = run(Op::kSet, key, value_of(2), closed);
    if (is_there && GetParam() == SetMode::kIfAbsent) {
      EXPECT_TRUE(status.has_value()) << "it changes nothing";
    } else {
      ASSERT_FALSE(status.has_value());
      EXPECT_EQ(status.error().code(), ErrorCode::kCancelled);
    }
    EXPECT_EQ(names_in(directory.path()), names);
    EXPECT_EQ(store->inventory().totals().bytes, used);
    if (is_there) {
      EXPECT_EQ(content_of(path(key)), value_of(1));
    }
  }
}

TEST_P(ClosedGateTest, AnEmptyFileIsNotReplaced) {
  write_file(path("key"), {});
  EXPECT_EQ(run(Op::kSet, "key", value_of(2), closed).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(content_of(path("key")), Bytes{});
}

TEST_P(ClosedGateTest, ADeleteRemovesNeitherTheValueNorTheKeyBesideItNorALegacyFile) {
  const std::string hashed(900, 'x');
  ASSERT_TRUE(run(Op::kSet, "key", value_of(1), open).has_value());
  ASSERT_TRUE(run(Op::kSet, hashed, value_of(1), open).has_value());
  write_file(directory.path() + "/" + *legacy_file_name_of(kKey), value_of(1));
  const auto names = names_in(directory.path());
  ASSERT_EQ(names.size(), 4U);
  for (const std::string& key : {std::string{"key"}, hashed, kKey}) {
    EXPECT_EQ(run(Op::kDelete, key, {}, closed).error().code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(names_in(directory.path()), names);
  EXPECT_EQ(store->inventory().totals().keys, 2U);
}

TEST_P(ClosedGateTest, AStoreThatNeedsRoomEvictsNothing) {
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(run(Op::kSet, std::to_string(i), value_of(1, 240'000), open).has_value());
  }
  const auto names = names_in(directory.path());
  EXPECT_FALSE(run(Op::kSet, "more", value_of(1, 500'000), closed).has_value());
  EXPECT_EQ(names_in(directory.path()), names);
  EXPECT_EQ(store->counters().evictions.load(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, ClosedGateTest,
                         ::testing::Values(SetMode::kIfAbsent, SetMode::kReplace),
                         [](const auto& mode) {
                           return mode.param == SetMode::kIfAbsent ? "IfAbsent" : "Replace";
                         });

// ---- A file system that is late
// ----------------------------------------------------------------------

class LateTest : public ::testing::TestWithParam<SetMode> {
 protected:
  void SetUp() override {
    std::string skipped;
    disk = faulty(skipped);
    if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
    fs.emplace(disk->path(), "stall=1h");
    hasty.emplace(*fs->connector, kHastyNs);
  }
  void TearDown() override {
    if (disk) disk->heal();
  }
  /// Until the file system has a call of `operation` that is given up.
  void give_up(const std::function<void()>& operation) {
    const std::uint64_t before = disk->faults();
    ASSERT_TRUE(eventually([&] {
      operation();
      return disk->faults() > before;
    }));
  }
  bool wait_for_the_hung() {
    return eventually([&] { return fs->counter("calls_hung") == 0; });
  }

  std::unique_ptr<testing::FaultyDirectory> disk;
  std::optional<OpenFs> fs;
  std::optional<BlockingClient> hasty;  ///< Whose deadline passes.
};

TEST_P(LateTest, AStoreGivenUpWhileItIsWrittenIsNeverPublished) {
  disk->stall(testing::kWrites);
  give_up([&] { EXPECT_FALSE(hasty->set("key", value_of(1), GetParam()).has_value()); });
  disk->let_others_through();
  fs->set("key", value_of(2), SetMode::kReplace);
  EXPECT_TRUE(*fs->client->remove("key"));
  disk->heal();
  EXPECT_TRUE(wait_for_the_hung());
  EXPECT_TRUE(fs->is_miss("key")) << "a delete was undone";
  EXPECT_TRUE(names_in(disk->path()).empty()) << "a temporary file stayed";
}

TEST_P(LateTest, WhatComesAfterARenameThatHangsIsNotUndone) {
  disk->stall(testing::kRenames);
  give_up([&] { EXPECT_FALSE(hasty->set("key", value_of(2), GetParam()).has_value()); });
  // The kernel has it, and it cannot be revoked: later changes wait, each for its time.
  EXPECT_EQ(hasty->set("key", value_of(3), SetMode::kReplace).error().code(),
            ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(hasty->remove("key").error().code(), ErrorCode::kDeadlineExceeded);
  disk->heal();
  fs->set("key", value_of(4), SetMode::kReplace);
  EXPECT_TRUE(fs->has("key", value_of(4)));
  EXPECT_TRUE(wait_for_the_hung());
  EXPECT_TRUE(fs->has("key", value_of(4)));
}

TEST_P(LateTest, AStoreAfterADeleteThatHangsStays) {
  fs->set("key", value_of(1));
  disk->stall(testing::kRemoves);
  give_up([&] { EXPECT_FALSE(hasty->remove("key").has_value()); });
  EXPECT_FALSE(hasty->set("key", value_of(2), SetMode::kReplace).has_value());
  disk->heal();
  fs->set("key", value_of(3), SetMode::kReplace);
  EXPECT_TRUE(wait_for_the_hung());
  EXPECT_TRUE(fs->has("key", value_of(3)));
}

TEST_P(LateTest, AnotherStoreOfTheDirectoryWaitsForWhatThisOneCannotTakeBack) {
  const std::string path = disk->path();
  OpenFs other{path, "stall=1h"};
  BlockingClient other_hasty{*other.connector, kHastyNs};
  disk->stall(testing::kRenames);
  give_up([&] { EXPECT_FALSE(hasty->set("key", value_of(2), GetParam()).has_value()); });
  disk->let_others_through();
  // They have not begun: calls in the kernel may be reordered there, those before it are not.
  const std::string waits = "earlier calls into the file system have not ended";
  EXPECT_EQ(other_hasty.set("key", value_of(3), SetMode::kReplace).error().what(), waits);
  EXPECT_EQ(other_hasty.remove("key").error().what(), waits);
  disk->heal();
  other.set("key", value_of(4), SetMode::kReplace);
  EXPECT_TRUE(wait_for_the_hung());
  EXPECT_TRUE(other.has("key", value_of(4))) << "a late rename undid a later store";
}

INSTANTIATE_TEST_SUITE_P(Modes, LateTest, ::testing::Values(SetMode::kIfAbsent, SetMode::kReplace),
                         [](const auto& mode) {
                           return mode.param == SetMode::kIfAbsent ? "IfAbsent" : "Replace";
                         });

// ---- Deadlines at any moment
// -------------------------------------------------------------------------

TEST(FsLateCallsTest, DeadlinesAtAnyMomentLeaveTheLaneAndTheDirectoryAsTheyWere) {
  const testing::TemporaryDirectory directory;
  const std::string parameters = "staged=yes&exclusive=yes&capacity=60MiB";
  {
    OpenFs fs{directory.path(), parameters};
    Random random{20};
    for (int round = 0; round < 300; ++round) {
      // From one that has passed to one that a store meets, and every step of a store in between.
      BlockingClient hasty{*fs.connector, random.below(400'000)};
      static_cast<void>(hasty.set("key-" + std::to_string(round % 8),
                                  value_of(static_cast<std::uint64_t>(round), 20'000),
                                  SetMode::kReplace));
    }
    EXPECT_TRUE(eventually([&] { return fs.counter("calls_hung") == 0; }));
    for (int i = 0; i < 8; ++i) {
      const std::string key = "key-" + std::to_string(i);
      fs.set(key, value_of(9), SetMode::kReplace);
      EXPECT_TRUE(fs.has(key, value_of(9)));
    }
  }
  const OpenFs again{directory.path(), parameters};
  EXPECT_EQ(again.connector->report().keys, 8U) << "the lock is free, and temporary files are gone";
}

}  // namespace
}  // namespace larder::fs
