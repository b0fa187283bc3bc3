#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "larder/connector/worker_pool.h"
#include "tests/support/worker_pool_test_support.h"

namespace larder {
namespace {

using testing_support::keys;
using testing_support::kGone;
using testing_support::kMillisecond;
using testing_support::kPatience;
using testing_support::now_ns;
using testing_support::TestBatch;
using testing_support::WorkerPoolTest;

constexpr int kThreads = 3;
constexpr int kBatchesEach = 400;

// ---- Deadlines, cancel, stop --------------------------------------------------------------------

TEST_F(WorkerPoolTest, QueuedItemsComeBackAtTheDeadlineWhileEveryWorkerIsBlocked) {
  options_.scheduler.workers = {1, 2, 1};
  block(Op::kGet);
  pool_clock_ = &manual_clock_;
  make_pool();
  store({"late"});
  TestBatch blocking{Op::kGet, keys(2)};
  submit(blocking);
  ASSERT_TRUE(gate_->wait_for_arrivals(2));

  TestBatch patient{Op::kGet, {"patient"}};
  TestBatch later{Op::kGet, keys(5)};
  later.batch.deadline_ns = manual_clock_.now_ns() + 2'000 * kMillisecond;
  TestBatch sooner{Op::kGet, {"late"}};
  sooner.batch.deadline_ns = manual_clock_.now_ns() + 1'000 * kMillisecond;
  submit(patient);
  submit(later);
  submit(sooner);

  EXPECT_TRUE(has_nothing_to_reap());
  manual_clock_.advance_to_ns(sooner.batch.deadline_ns);
  EXPECT_EQ(reap(), &sooner.batch);
  EXPECT_TRUE(has_nothing_to_reap()) << "the other has as much time again";
  manual_clock_.advance_to_ns(later.batch.deadline_ns);
  EXPECT_EQ(reap(), &later.batch);
  EXPECT_EQ(sooner.code(), ErrorCode::kDeadlineExceeded);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(later.code(i), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(script_->calls().size(), 2U) << "the backend never saw them";

  TestBatch exists{Op::kExists, {"late"}};
  run(exists);
  EXPECT_EQ(exists.outcome(), Outcome::kMiss) << "a late key is a miss for a while";

  gate_->open();
  EXPECT_EQ((std::set{reap(), reap()}), (std::set{&blocking.batch, &patient.batch}));
}

TEST_F(WorkerPoolTest, ItemsOfARunningTileThatHaveNotBegunFailAfterTheDeadline) {
  block(Op::kExists);
  pool_clock_ = &manual_clock_;
  make_pool();
  store(keys(3));
  TestBatch exists{Op::kExists, keys(3)};
  exists.batch.deadline_ns = manual_clock_.now_ns() + 1000 * kMillisecond;
  submit(exists);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  manual_clock_.advance_to_ns(exists.batch.deadline_ns);
  EXPECT_TRUE(has_nothing_to_reap()) << "the first item is still in its call";

  gate_->open();
  ASSERT_EQ(reap(), &exists.batch);
  EXPECT_EQ(exists.outcome(0), Outcome::kHit) << "what had begun ends as it ends";
  EXPECT_EQ(exists.code(1), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(exists.code(2), ErrorCode::kDeadlineExceeded);
}

TEST_F(WorkerPoolTest, ABatchThatIsLateAlreadyFailsWithoutACall) {
  make_pool();
  TestBatch exists{Op::kExists, {"a"}};
  exists.batch.deadline_ns = 1;
  run(exists);
  EXPECT_EQ(exists.code(), ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(script_->calls().empty());
}

TEST_F(WorkerPoolTest, CancelGivesAQueuedBatchBackAtOnceAndEndsARunningOneEarly) {
  block(Op::kGet);
  make_pool();
  TestBatch running{Op::kGet, keys(3)};
  TestBatch queued{Op::kGet, keys(3)};
  TestBatch behind{Op::kGet, keys(1)};
  submit(running);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  submit(queued);
  submit(behind);

  pool_->cancel(queued.batch);
  pool_->cancel(queued.batch);  // Finished, not reaped: nothing happens.
  ASSERT_EQ(reap(), &queued.batch);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(queued.code(i), ErrorCode::kCancelled);

  pool_->cancel(running.batch);
  EXPECT_TRUE(has_nothing_to_reap());
  gate_->open();
  ASSERT_EQ(reap(), &running.batch);
  EXPECT_EQ(running.outcome(0), Outcome::kMiss);
  EXPECT_EQ(running.code(1), ErrorCode::kCancelled);
  EXPECT_EQ(running.code(2), ErrorCode::kCancelled);
  ASSERT_EQ(reap(), &behind.batch);
  EXPECT_EQ(behind.outcome(), Outcome::kMiss) << "a cancelled key is not a failed one";
}

TEST_F(WorkerPoolTest, CancelOfAHalfTakenBatchGivesOneCompletion) {
  options_.scheduler.workers = {1, 2, 1};
  script_->on_call = [this](Op, const std::string& key) {
    if (key == "blocks" || key == "key100") gate_->wait();
    return Status{};
  };
  make_pool();
  TestBatch blocking{Op::kGet, {"blocks"}};
  submit(blocking);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  TestBatch half{Op::kGet, keys(4)};  // Two tiles, and one worker left.
  submit(half);
  ASSERT_TRUE(gate_->wait_for_arrivals(2));

  pool_->cancel(half.batch);
  EXPECT_TRUE(has_nothing_to_reap());
  EXPECT_EQ(counter("batches_queued_load"), 0U);
  gate_->open();
  ASSERT_NE(reap(), nullptr);
  ASSERT_NE(reap(), nullptr);
  EXPECT_TRUE(has_nothing_to_reap());
  EXPECT_EQ(half.outcome(0), Outcome::kMiss);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(half.code(i), ErrorCode::kCancelled);
}

TEST_F(WorkerPoolTest, StopFailsWhatIsQueuedAndNamesWhatIsStuck) {
  block(Op::kSet);
  make_pool();
  TestBatch running{Op::kSet, keys(2)};
  TestBatch queued{Op::kSet, keys(2)};
  submit(running);
  ASSERT_TRUE(gate_->wait_for_arrivals(1));
  submit(queued);

  EXPECT_EQ(pool_->stop(now_ns() + kMillisecond).error().code(), ErrorCode::kUnavailable);
  ASSERT_EQ(reap(), &queued.batch);
  EXPECT_EQ(queued.code(0), ErrorCode::kCancelled);
  EXPECT_EQ(queued.code(1), ErrorCode::kCancelled);
  const auto reasons = report().reasons;
  EXPECT_TRUE(std::ranges::any_of(reasons, [](const std::string& reason) {
    return reason.find("still in a call") != std::string::npos;
  }));
  TestBatch refused{Op::kExists, {"a"}};
  EXPECT_EQ(pool_->submit(refused.batch).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(counter("batches_in_flight_lookup"), 0U);

  gate_->open();
  EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
  EXPECT_TRUE(pool_->stop(0));
  ASSERT_EQ(reap(), &running.batch) << "reap() works after stop()";
  EXPECT_EQ(running.outcome(0), Outcome::kDone);
  EXPECT_EQ(running.code(1), ErrorCode::kCancelled);
  EXPECT_EQ(script_->connections_alive, 0);
}

// ---- Stress -------------------------------------------------------------------------------------

TEST_F(WorkerPoolTest, UnderRandomLoadEveryBatchComesBackOnceWithEveryItemDecided) {
  options_.scheduler.workers = {2, 3, 2};
  options_.scheduler.intake.limits.batches_max = 64;
  script_->on_call = [this](Op, const std::string&) -> Status {
    const std::uint64_t call = ++calls_;
    if (call % 97 == 0) throw std::runtime_error("now and then");
    if (call % 31 == 0) return kGone;
    if (call % 13 == 0) return Error{ErrorCode::kIo, "script", "read"};
    return {};
  };
  script_->on_connect = [](int number) { return number % 5 == 0 ? Status{kGone} : Status{}; };
  make_pool();

  std::array<std::vector<std::unique_ptr<TestBatch>>, kThreads> batches;
  std::atomic<int> accepted = 0;
  std::atomic<int> threads_running = kThreads;
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random{static_cast<std::uint64_t>(t)};
      for (int i = 0; i < kBatchesEach; ++i) {
        auto& batch = *batches[static_cast<std::size_t>(t)].emplace_back(
            std::make_unique<TestBatch>(static_cast<Op>(1 + random.below(5)),
                                        keys(static_cast<int>(1 + random.below(12)))));
        batch.batch.urgency = static_cast<Urgency>(random.below(kUrgencyCount));
        if (random.one_in(3)) batch.batch.deadline_ns = now_ns() + random.below(2 * kMillisecond);
        while (!pool_->submit(batch.batch)) std::this_thread::yield();
        ++accepted;
      }
      --threads_running;
    });
  }

  std::set<Batch*> seen;
  std::array<Batch*, 5> done{};
  const std::uint64_t deadline_ns = now_ns() + 3 * kPatience;
  while (threads_running > 0 || seen.size() < static_cast<std::size_t>(accepted)) {
    ASSERT_LT(now_ns(), deadline_ns) << seen.size() << " of " << accepted;
    pollfd entry{pool_->event_fd(), POLLIN, 0};
    ::poll(&entry, 1, 10);
    const std::size_t count = pool_->reap(done);
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(seen.insert(done[i]).second);
  }
  threads.clear();
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kThreads * kBatchesEach));
  for (const Batch* batch : seen) {
    for (const Item& item : batch->items) {
      ASSERT_NE(item.outcome, Outcome::kPending);
      ASSERT_EQ(item.outcome == Outcome::kFailed, item.error.code() != ErrorCode::kNone);
    }
  }
  EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
  for (const char* name : {"batches_in_flight_lookup", "batches_in_flight_load",
                           "batches_in_flight_store", "bytes_in_flight_load"}) {
    EXPECT_EQ(counter(name), 0U) << name;
  }
}

TEST_F(WorkerPoolTest, CancelAndStopRaceWithWorkersWithoutLosingABatch) {
  options_.scheduler.workers = {1, 3, 1};
  for (int round = 0; round < 30; ++round) {
    reset();
    make_pool();
    std::vector<std::unique_ptr<TestBatch>> batches;
    for (int i = 0; i < 20; ++i) {
      batches.push_back(std::make_unique<TestBatch>(Op::kGet, keys(7)));
      batches.back()->batch.deadline_ns = now_ns() + kPatience;
      submit(*batches.back());
    }
    {
      const std::jthread canceller{[&] {
        for (auto& batch : batches) pool_->cancel(batch->batch);
      }};
      EXPECT_TRUE(pool_->stop(now_ns() + kPatience));
    }
    std::set<Batch*> seen;
    std::array<Batch*, 4> done{};
    while (const std::size_t count = pool_->reap(done))
      seen.insert(done.begin(), done.begin() + static_cast<std::ptrdiff_t>(count));
    ASSERT_EQ(seen.size(), batches.size());
  }
}

}  // namespace
}  // namespace larder
