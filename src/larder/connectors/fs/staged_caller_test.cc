#include "larder/connectors/fs/staged_caller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connectors/fs/fs_test_support.h"

// Every interleaving is made by hand: the script holds a helper at a named point until the test
// lets it go, and a deadline that passes is one that has passed already.

namespace larder::fs {
namespace {

constexpr std::uint64_t kPast = 1;
constexpr std::uint64_t kSecondNs = 1'000'000'000;
/// For calls that must not be waited for that long: a test that waits hangs, and does not pass.
constexpr std::uint64_t kLongNs = 3600 * kSecondNs;

/// Points at which a helper's call may be blocked.
enum class Point : std::uint8_t { kBeforeLook = 0, kBeforeChange, kInChange, kAfterChange };

/// A file system of one directory, as StagedTarget's functions.
class Script {
 public:
  /// From now on every thread that reaches `point` stays there until it is released.
  void hold(Point point) {
    const MutexLock lock{mutex_};
    is_held_[point] = true;
  }
  void let_through(Point point) {
    const MutexLock lock{mutex_};
    is_held_[point] = false;
    changed_.notify_all();
  }
  void wait_until_at(Point point, int count = 1) {
    const MutexLock lock{mutex_};
    while (waiting_[point] < count) changed_.wait(mutex_);
  }
  void wait_until_ended(int calls) {
    const MutexLock lock{mutex_};
    while (ended_ < calls) changed_.wait(mutex_);
  }
  std::optional<std::string> value(const std::string& key) {
    const MutexLock lock{mutex_};
    const auto at = values_.find(key);
    return at == values_.end() ? std::nullopt : std::optional{at->second};
  }
  int begun() {
    const MutexLock lock{mutex_};
    return begun_;
  }

  Status run(Op op, Item& item, ChangeGate& gate) {
    const Status status = run_here(op, item, gate);
    const MutexLock lock{mutex_};
    ++ended_;
    changed_.notify_all();
    return status;
  }
  void come_to(Point point) {
    const MutexLock lock{mutex_};
    ++waiting_[point];
    changed_.notify_all();
    while (is_held_[point]) changed_.wait(mutex_);
    --waiting_[point];
  }

 private:
  Status run_here(Op op, Item& item, ChangeGate& gate) {
    const std::string key{reinterpret_cast<const char*>(item.key.data()), item.key.size()};
    {
      const MutexLock lock{mutex_};
      ++begun_;
    }
    if (op == Op::kGet) {
      const auto found = value(key);
      item.outcome = found ? Outcome::kHit : Outcome::kMiss;
      if (!found) return {};
      item.value_bytes = found->size();
      std::ranges::copy(std::as_bytes(std::span{*found}), item.value[0].data);
      return {};
    }
    come_to(Point::kBeforeChange);
    {
      const std::string name = key + ".data";
      LARDER_ASSIGN(const ChangeGate::Pass pass, gate.pass(name));
      come_to(Point::kInChange);
      const MutexLock lock{mutex_};
      if (op == Op::kDelete) {
        values_.erase(key);
      } else {
        values_[key].assign(reinterpret_cast<const char*>(item.value[0].data), item.value[0].bytes);
      }
    }
    come_to(Point::kAfterChange);
    item.outcome = Outcome::kDone;
    return {};
  }

  Mutex mutex_;
  CondVar changed_;
  std::map<Point, bool> is_held_;
  std::map<Point, int> waiting_;
  std::map<std::string, std::string> values_;
  int begun_ = 0;
  int ended_ = 0;
};

class StagedCallerTest : public ::testing::Test {
 protected:
  StagedCallerTest() {
    auto made = std::make_shared<StagedTarget>();
    made->run = [script = script](Op op, Item& item, const CallOptions&, StagingBuffer&,
                                  ChangeGate& gate) { return script->run(op, item, gate); };
    made->name_of = [](std::span<const std::byte> key) {
      return std::string{reinterpret_cast<const char*>(key.data()), key.size()} + ".data";
    };
    made->before_look = [script = script] { script->come_to(Point::kBeforeLook); };
    made->counters = &counters;
    made->clock = &clock;
    made->stall_ns = kLongNs;
    made->hung_max = 4;
    target = made;
  }
  ~StagedCallerTest() override {
    for (const Point point :
         {Point::kBeforeLook, Point::kBeforeChange, Point::kInChange, Point::kAfterChange}) {
      script->let_through(point);
    }
    hung->wait_empty(kNever);
  }

  /// A worker of the lane.
  std::unique_ptr<StagedCaller> caller() { return std::make_unique<StagedCaller>(target, hung); }

  Status call(StagedCaller& worker, Op op, const std::string& key, std::string value = "",
              std::uint64_t deadline_ns = kNever) {
    Slice slice{reinterpret_cast<std::byte*>(value.data()), value.size()};
    Item item;
    item.key = std::as_bytes(std::span{key});
    if (op == Op::kSet || op == Op::kGet) item.value = {&slice, 1};
    const Status status = worker.call(op, item, {.deadline_ns = deadline_ns});
    outcome = item.outcome;
    if (op == Op::kGet) loaded = value;
    return status;
  }
  Status set(StagedCaller& worker, const std::string& key, const std::string& value,
             std::uint64_t deadline_ns = kNever) {
    return call(worker, Op::kSet, key, value, deadline_ns);
  }
  /// A change whose deadline passes while its helper is blocked at `point`.
  void give_up_at(Point point, StagedCaller& worker, Op op, const std::string& key,
                  const std::string& value = "", int held = 1) {
    script->hold(point);
    std::thread passing{[&] {
      script->wait_until_at(point, held);
      clock.advance_ns(1);
    }};
    const Status status = call(worker, op, key, value, clock.now_ns() + 1);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code(), ErrorCode::kDeadlineExceeded);
    passing.join();
  }

  ManualClock clock;
  const std::shared_ptr<Script> script = std::make_shared<Script>();
  const std::shared_ptr<HungCalls> hung = std::make_shared<HungCalls>(clock);
  FsCounters counters;
  std::shared_ptr<StagedTarget> target;
  Outcome outcome = Outcome::kPending;
  std::string loaded;
};

TEST_F(StagedCallerTest, ACallIsMadeAndItsAnswerTaken) {
  const auto worker = caller();
  ASSERT_TRUE(set(*worker, "key", "value").has_value());
  EXPECT_EQ(outcome, Outcome::kDone);
  EXPECT_EQ(script->value("key"), "value");
  ASSERT_TRUE(call(*worker, Op::kGet, "key", "-----").has_value());
  EXPECT_EQ(loaded, "value");
  EXPECT_EQ(counters.bytes_staged.load(), 10U);
}

TEST_F(StagedCallerTest, ATaskThatTheHelperDidNotSeeInTimeIsTakenBack) {
  const auto worker = caller();
  script->hold(Point::kBeforeLook);
  for (int round = 0; round < 10; ++round) {
    const Status late = set(*worker, "key", "never", kPast);
    ASSERT_FALSE(late.has_value());
    EXPECT_EQ(late.error().code(), ErrorCode::kDeadlineExceeded);
    EXPECT_EQ(hung->count(), 0U) << "a call that was not begun hangs";
  }
  EXPECT_EQ(counters.calls_abandoned.load(), 0U);
  script->let_through(Point::kBeforeLook);
  ASSERT_TRUE(set(*worker, "other", "value").has_value()) << "the helper is still good";
  EXPECT_EQ(script->begun(), 1);
  EXPECT_EQ(script->value("key"), std::nullopt);
}

TEST_F(StagedCallerTest, WhatWasGivenUpBeforeItsChangeNeverChangesAnything) {
  const auto later = caller();
  ASSERT_TRUE(set(*later, "set", "old").has_value());
  ASSERT_TRUE(set(*later, "delete", "old").has_value());
  {
    const auto first = caller();
    give_up_at(Point::kBeforeChange, *first, Op::kSet, "set", "late");
  }
  {
    const auto second = caller();
    give_up_at(Point::kBeforeChange, *second, Op::kDelete, "delete", "", 2);
  }
  EXPECT_EQ(hung->count(), 2U);
  EXPECT_EQ(counters.calls_abandoned.load(), 2U);
  // They keep hanging; later calls do not wait, and are not undone.
  script->let_through(Point::kBeforeChange);
  ASSERT_TRUE(set(*later, "set", "new").has_value());
  ASSERT_TRUE(set(*later, "delete", "new").has_value());
  hung->wait_empty(kNever);
  EXPECT_EQ(script->value("set"), "new");
  EXPECT_EQ(script->value("delete"), "new");
}

TEST_F(StagedCallerTest, ALaterChangeOfAFileWaitsForOneThatCannotBeStopped) {
  const auto later = caller();
  ASSERT_TRUE(set(*later, "key", "old").has_value());
  const auto first = caller();
  give_up_at(Point::kInChange, *first, Op::kSet, "key", "late");
  const int begun = script->begun();
  for (const Op op : {Op::kSet, Op::kDelete}) {
    const Status status = call(*later, op, "key", "new", kPast);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code(), ErrorCode::kDeadlineExceeded);
  }
  EXPECT_EQ(script->begun(), begun) << "a change was begun beside one of the same file";
  // Neither lookups and loads of the key nor changes of other keys wait.
  ASSERT_TRUE(call(*later, Op::kGet, "key", "---").has_value());
  EXPECT_EQ(loaded, "old");
  script->let_through(Point::kInChange);
  ASSERT_TRUE(set(*later, "key", "new").has_value()) << "it waits until the other ended";
  EXPECT_EQ(script->value("key"), "new");
  EXPECT_EQ(hung->count(), 0U);
}

TEST_F(StagedCallerTest, ADeleteAfterAStoreThatCannotBeStoppedIsNotUndone) {
  const auto later = caller();
  const auto first = caller();
  give_up_at(Point::kInChange, *first, Op::kSet, "key", "late");
  std::thread ending{[&] { script->let_through(Point::kInChange); }};
  ASSERT_TRUE(call(*later, Op::kDelete, "key").has_value());
  ending.join();
  EXPECT_EQ(script->value("key"), std::nullopt);
}

TEST_F(StagedCallerTest, AStoreAfterADeleteThatCannotBeStoppedStays) {
  const auto later = caller();
  ASSERT_TRUE(set(*later, "key", "old").has_value());
  const auto first = caller();
  give_up_at(Point::kInChange, *first, Op::kDelete, "key");
  std::thread ending{[&] { script->let_through(Point::kInChange); }};
  ASSERT_TRUE(set(*later, "key", "new").has_value());
  ending.join();
  EXPECT_EQ(script->value("key"), "new");
}

TEST_F(StagedCallerTest, WhatWasGivenUpAfterItsChangeHoldsNothingUp) {
  const auto later = caller();
  const auto first = caller();
  give_up_at(Point::kAfterChange, *first, Op::kSet, "key", "first");
  EXPECT_EQ(script->value("key"), "first");
  std::string other = "key";
  std::thread ending{[&] {
    script->wait_until_at(Point::kAfterChange, 2);
    script->let_through(Point::kAfterChange);
  }};
  // If it waited for the first one, nothing would ever release that.
  ASSERT_TRUE(set(*later, other, "second").has_value());
  ending.join();
  hung->wait_empty(kNever);
  EXPECT_EQ(script->value("key"), "second");
}

TEST_F(StagedCallerTest, WithoutADeadlineAWaitEndsAfterStall) {
  const auto first = caller();
  give_up_at(Point::kInChange, *first, Op::kSet, "key", "late");
  const auto later = caller();
  clock.advance_ns(target->stall_ns);
  const Status status = set(*later, "key", "new");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(status.error().to_string().find("earlier change of this key"), std::string::npos);
  EXPECT_EQ(script->value("key"), std::nullopt);
}

TEST_F(StagedCallerTest, ACallWithoutADeadlineIsGivenUpAfterStall) {
  target->stall_ns = 1;
  const auto worker = caller();
  script->hold(Point::kBeforeChange);
  std::thread passing{[&] {
    script->wait_until_at(Point::kBeforeChange);
    clock.advance_ns(1);
  }};
  const Status status = set(*worker, "key", "value");
  passing.join();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), ErrorCode::kUnavailable);
}

TEST_F(StagedCallerTest, NoMoreCallsThanTheLaneHasWorkersAreLeftBehind) {
  target->hung_max = 2;
  std::vector<std::unique_ptr<StagedCaller>> workers;
  script->hold(Point::kBeforeChange);
  for (int i = 1; i <= 2; ++i) {
    workers.push_back(caller());
    give_up_at(Point::kBeforeChange, *workers.back(), Op::kSet, "key" + std::to_string(i), "value",
               i);
  }
  const auto third = caller();
  EXPECT_EQ(set(*third, "third", "value", kPast).error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(script->begun(), 2);
  script->let_through(Point::kBeforeChange);
  EXPECT_TRUE(set(*third, "third", "value").has_value()) << "the lane is back";
}

TEST_F(StagedCallerTest, AStopEndsTheCallThatRuns) {
  const auto worker = caller();
  script->hold(Point::kInChange);
  std::thread stopping{[&] {
    script->wait_until_at(Point::kInChange);
    worker->stop(0);
  }};
  EXPECT_EQ(set(*worker, "key", "value").error().code(), ErrorCode::kCancelled);
  stopping.join();
  EXPECT_EQ(hung->count(), 1U);
}

TEST_F(StagedCallerTest, AStopEndsAWaitForATurn) {
  const auto first = caller();
  give_up_at(Point::kInChange, *first, Op::kSet, "key", "late");
  const auto later = caller();
  std::thread stopping{[&] { later->stop(kNever); }};
  EXPECT_EQ(set(*later, "key", "new").error().code(), ErrorCode::kCancelled);
  stopping.join();
  EXPECT_EQ(set(*later, "other", "new").error().code(), ErrorCode::kCancelled);
}

TEST_F(StagedCallerTest, AHelperThatWasLeftBehindFreesEverythingWhenItsCallEnds) {
  std::weak_ptr<StagedTarget> kept = target;
  {
    const auto worker = caller();
    give_up_at(Point::kBeforeChange, *worker, Op::kSet, "key", "late");
  }
  target = nullptr;
  EXPECT_FALSE(kept.expired()) << "the helper still uses it";
  script->let_through(Point::kBeforeChange);
  EXPECT_TRUE(eventually([&] { return kept.expired(); })) << "a helper waits for ever";
}

}  // namespace
}  // namespace larder::fs
