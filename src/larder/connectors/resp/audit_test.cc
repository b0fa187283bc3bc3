#include "larder/connectors/resp/audit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace larder::resp {
namespace {

constexpr std::uint64_t kMillisecondNs = 1'000'000;
constexpr std::uint64_t kCapacityBytes = std::uint64_t{1} << 40;

class AuditTest : public testing::Test {
 protected:
  void store(const std::string& key, std::uint64_t bytes) {
    stored_.note_stored(std::as_bytes(std::span{key}), bytes);
    server_.insert(key);
  }
  void store_many(int count) {
    for (int i = 0; i < count; ++i) store("key " + std::to_string(i), 100);
  }
  /// A step where one is due: how many keys were asked for.
  std::size_t step(std::size_t room = SIZE_MAX) {
    if (now_ns_ < audit_.due_ns()) return 0;
    std::vector<std::string> asked;
    audit_.step(now_ns_, [&](std::string_view key) {
      if (asked.size() == room) return false;
      asked.emplace_back(key);
      return true;
    });
    for (const std::string& key : asked) {
      audit_.note_answer(server_.contains(key) ? std::uint64_t{100} : std::uint64_t{0});
    }
    return asked.size();
  }
  /// Steps for a while, one look in each millisecond.
  std::size_t run(std::uint64_t milliseconds) {
    std::size_t asked = 0;
    for (std::uint64_t i = 0; i < milliseconds; ++i) {
      now_ns_ += kMillisecondNs;
      asked += step();
    }
    return asked;
  }

  std::uint64_t now_ns_ = 1'000'000 * kMillisecondNs;
  std::set<std::string> server_;
  OwnWrites stored_{kCapacityBytes, 1'000'000};
  Audit audit_{stored_};
};

TEST_F(AuditTest, NothingIsAskedForWhereNothingIsLostOrRefused) {
  store_many(1000);
  EXPECT_EQ(run(10'000), 0U);
}

TEST_F(AuditTest, ARefusedStoreAsksForSomeKeysAndFindsThoseThatAreGone) {
  store_many(100);
  server_.clear();
  audit_.note_refused();
  EXPECT_EQ(run(10), 100U);
  EXPECT_EQ(stored_.keys(), 0U);
  EXPECT_EQ(stored_.bytes(), 0U);
  EXPECT_EQ(run(1000), 0U);
}

TEST_F(AuditTest, APassAsksForEveryKeyOnce) {
  store_many(10'000);
  server_.erase("key 7");
  server_.erase("key 9999");
  audit_.note_losses();
  const std::size_t asked = run(10'000);
  EXPECT_GE(asked, 10'000U);
  EXPECT_LE(asked, 10'100U) << "keys of one bucket may be asked for again";
  EXPECT_EQ(stored_.keys(), 9998U);
  EXPECT_EQ(stored_.bytes(), 999'800U);
}

TEST_F(AuditTest, WhatIsLostWhileAPassRunsIsFoundByTheNext) {
  store_many(10'000);
  audit_.note_losses();
  EXPECT_GT(run(100), 0U);
  server_.clear();
  audit_.note_losses();
  run(20'000);
  EXPECT_EQ(stored_.keys(), 0U);
}

TEST_F(AuditTest, AllThatIsLostAtOnceIsFoundSoon) {
  store_many(100'000);
  server_.clear();
  audit_.note_losses();
  run(3000);
  EXPECT_EQ(stored_.keys(), 0U);
}

TEST_F(AuditTest, AskingIsBoundedWhateverIsRefused) {
  store_many(1'000'000);
  std::size_t asked = 0;
  for (int i = 0; i < 1000; ++i) {
    audit_.note_refused();
    asked += run(1);
  }
  EXPECT_LE(asked, 201 * Audit::kKeysPerStep);
  EXPECT_GE(asked, 160 * Audit::kKeysPerStep);
  audit_.note_losses();
  EXPECT_LE(run(1000), 21 * Audit::kKeysPerStep);
}

TEST_F(AuditTest, OneStepAtATimeAndNoMoreThanThereIsRoomFor) {
  store_many(1000);
  audit_.note_losses();
  now_ns_ = std::max(now_ns_, audit_.due_ns());
  audit_.step(now_ns_, [](std::string_view) { return true; });
  EXPECT_EQ(audit_.due_ns(), kNever) << "its answers are not there";
  audit_.note_lost();
  EXPECT_NE(audit_.due_ns(), kNever);
  now_ns_ = audit_.due_ns();
  EXPECT_EQ(step(3), 3U);
}

TEST_F(AuditTest, AKeyThatWasStoredAgainMeanwhileStays) {
  store("key", 100);
  audit_.note_refused();
  audit_.step(now_ns_, [](std::string_view) { return true; });
  store("key", 100);  // After the server had answered that it is gone.
  EXPECT_FALSE(audit_.note_answer(0));
  EXPECT_EQ(stored_.bytes(), 100U);
}

TEST_F(AuditTest, AnAnswerThatSaysNothingChangesNothingAndAnotherSizeCounts) {
  store("a", 100);
  audit_.note_refused();
  audit_.step(now_ns_, [](std::string_view) { return true; });
  EXPECT_FALSE(audit_.note_answer(std::nullopt));
  EXPECT_EQ(stored_.bytes(), 100U);
  audit_.note_refused();
  now_ns_ = audit_.due_ns();
  audit_.step(now_ns_, [](std::string_view) { return true; });
  EXPECT_FALSE(audit_.note_answer(7));
  EXPECT_EQ(stored_.bytes(), 7U);
}

TEST_F(AuditTest, WithoutACapacityKeysAreNotKeptAndNothingIsAskedFor) {
  OwnWrites stored{0, 100};
  Audit audit{stored};
  const std::string key = "key";
  stored.note_stored(std::as_bytes(std::span{key}), 10);
  audit.note_losses();
  EXPECT_EQ(audit.due_ns(), kNever);
  stored.keep_at_most(1);
  EXPECT_EQ(stored.keys(), 1U);
  stored.keep_at_most(0);
  EXPECT_EQ(stored.keys(), 0U);
  EXPECT_EQ(stored.bytes(), 0U);
}

}  // namespace
}  // namespace larder::resp
