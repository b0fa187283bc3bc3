#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "larder/connector/worker_pool.h"
#include "tests/support/worker_pool_test_support.h"

namespace larder {
namespace {

using testing::eventually;
using testing_support::keys;
using testing_support::kGone;
using testing_support::kMillisecond;
using testing_support::kPatience;
using testing_support::Pool;
using testing_support::ScriptedBackend;
using testing_support::TestBatch;
using testing_support::WorkerPoolTest;

// ---- Connections --------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, AFailureToConnectFailsTheItemsAndRecoveryNeedsNoTraffic) {
  script_->on_connect = [this](int number) -> Status {
    if (number % 3 == 0) throw std::runtime_error("while connecting");
    return flag_ ? Status{} : Status{Error::from_errno(ECONNREFUSED, "script", "connect")};
  };
  pool_clock_ = &manual_clock_;
  make_pool();
  store({"a"});
  for (int i = 0; i < 3; ++i) {
    TestBatch get{Op::kGet, {"a", "b"}};
    run(get);
    if (i == 0) {
      EXPECT_EQ(get.code(0), ErrorCode::kUnavailable);
    } else {
      EXPECT_EQ(get.outcome(0), Outcome::kMiss);
    }
    EXPECT_EQ(get.outcome(1), Outcome::kMiss) << "the lane is down: it is not tried again";
    EXPECT_EQ(get.item(1).miss_reason, MissReason::kDown);
  }
  EXPECT_EQ(report().health, Health::kDown);
  EXPECT_GE(counter("connect_failures_total"), 1U);

  flag_ = true;  // The peer is up.
  ASSERT_TRUE(eventually([&] {
    manual_clock_.advance_ns(1'000 * kMillisecond);
    return report().health == Health::kHealthy;
  }));
  EXPECT_EQ(counter("connections"), 1U);
  TestBatch get{Op::kGet, {"c"}};
  run(get);
  EXPECT_EQ(get.outcome(), Outcome::kMiss);
}

TEST_F(WorkerPoolTest, DuringTheBackOffItemsAreAnsweredWithoutAnotherAttempt) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_connect = [](int) -> Status { return kGone; };
  make_pool();
  for (int i = 0; i < 3; ++i) {
    TestBatch exists{Op::kExists, keys(20)};
    run(exists);
    for (std::size_t k = 0; k < 20; ++k) {
      if (i == 0 && k == 0) {
        EXPECT_EQ(exists.code(k), ErrorCode::kUnavailable);
      } else {
        EXPECT_EQ(exists.outcome(k), Outcome::kMiss);
      }
    }
  }
  TestBatch remove{Op::kDelete, keys(2)};
  run(remove);
  for (std::size_t k = 0; k < 2; ++k) EXPECT_EQ(remove.code(k), ErrorCode::kUnavailable);
  EXPECT_EQ(script_->connects, 2) << "one for each lane";
}

TEST_F(WorkerPoolTest, AttemptsToConnectWaitLongerAndLongerUpToTheMaximum) {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  options_.reconnect = {.initial_ns = 100 * kSecond, .max_ns = 400 * kSecond};
  pool_clock_ = &manual_clock_;
  script_->on_connect = [this](int) -> Status {
    attempted_at_ns_ = manual_clock_.now_ns();
    ++calls_;
    return kGone;
  };
  make_pool();
  TestBatch exists{Op::kExists, {"a"}};
  run(exists);
  std::uint64_t wait_ns = options_.reconnect.initial_ns;
  for (std::uint64_t attempts = 1; attempts < 7; ++attempts) {
    ASSERT_EQ(calls_, attempts);
    const std::uint64_t last_ns = attempted_at_ns_;
    // Each wait is shortened by up to a half.
    manual_clock_.advance_ns(wait_ns / 2 - 1);
    manual_clock_.advance_ns(wait_ns / 2 + 1);
    ASSERT_TRUE(eventually([&] { return calls_ == attempts + 1; }));
    EXPECT_GE(attempted_at_ns_ - last_ns, wait_ns / 2);
    wait_ns = std::min(2 * wait_ns, options_.reconnect.max_ns);
    // It has noted the failure when the lane answers without it.
    ASSERT_TRUE(eventually([&] { return counter("connect_failures_total") == attempts + 1; }));
  }
}

TEST_F(WorkerPoolTest, ALostConnectionThatHadWorkedIsReplacedAtOnce) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_call = [](Op, const std::string& key) -> Status {
    if (key == "lost") return kGone;
    if (key == "slow") return Error{ErrorCode::kDeadlineExceeded, "script", "slow"};
    if (key == "throws") throw 42;  // NOLINT: not every exception is a std::exception.
    return {};
  };
  make_pool();
  store({"a"});
  TestBatch exists{Op::kExists, {"a", "lost", "a", "slow", "throws", "a"}};
  run(exists);
  EXPECT_EQ(exists.outcome(0), Outcome::kHit);
  EXPECT_EQ(exists.code(1), ErrorCode::kUnavailable);
  EXPECT_EQ(exists.outcome(2), Outcome::kHit);
  EXPECT_EQ(exists.code(3), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(exists.code(4), ErrorCode::kInternal);
  EXPECT_EQ(exists.outcome(5), Outcome::kHit);
  EXPECT_EQ(script_->connects, 4);
  ASSERT_EQ(report().reasons.size(), 1U) << "the lookups that failed, and no peer that is gone";
  EXPECT_NE(report().reasons[0].find("3 of 6 lookups"), std::string::npos) << report().reasons[0];
}

TEST_F(WorkerPoolTest, AConnectionThatNeverWorkedIsAsBadAsNone) {
  options_.reconnect = {.initial_ns = kPatience, .max_ns = kPatience};
  script_->on_call = [](Op, const std::string&) -> Status { return kGone; };
  make_pool();
  TestBatch exists{Op::kExists, keys(10)};
  run(exists);
  EXPECT_EQ(exists.code(0), ErrorCode::kUnavailable);
  for (std::size_t i = 1; i < 10; ++i) EXPECT_EQ(exists.outcome(i), Outcome::kMiss);
  EXPECT_EQ(script_->connects, 1) << "one connection for each item would storm the peer";
  EXPECT_EQ(report().health, Health::kDown);
}

TEST_F(WorkerPoolTest, AWorkerWithoutPeerLeavesTilesToThoseThatHaveOne) {
  options_.scheduler.workers = {2, 1, 1};
  // It wakes up all the time to try again, and must not help itself to a tile then.
  options_.reconnect = {.initial_ns = 1000, .max_ns = 10'000};
  script_->on_connect = [this](int number) -> Status {
    if (number == 1) return {};
    flag_ = true;
    return kGone;
  };
  block(Op::kExists);
  make_pool();
  store({"a", "b"});
  TestBatch first{Op::kExists, {"a", "b"}};
  submit(first);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  ASSERT_TRUE(eventually([&] { return flag_.load(); }));
  gate_->open();
  ASSERT_EQ(reap(), &first.batch);
  EXPECT_EQ(report().health, Health::kDegraded);

  for (int i = 0; i < 1000; ++i) {
    TestBatch exists{Op::kExists, {"a", "b"}};
    run(exists);
    ASSERT_EQ(exists.outcome(0), Outcome::kHit);
    ASSERT_EQ(exists.outcome(1), Outcome::kHit);
  }
}

// ---- Options ------------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, OptionsOutOfBoundsAreRefused) {
  const auto is_refused = [&](auto change) {
    WorkerPoolOptions options = options_;
    change(options);
    const auto pool = Pool::create(ScriptedBackend{script_}, options);
    return !pool && pool.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.workers[1] = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.workers[2] = 1025; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.intake.limits.batches_max = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.scheduler.intake.failed_keys_max = 0; }));
  EXPECT_TRUE(is_refused([](auto& options) { options.reconnect.initial_ns = 0; }));
}

}  // namespace
}  // namespace larder
