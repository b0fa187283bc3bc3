// The way in and through the queues: admission, limits, urgency, and many threads at once.
// intake_ends_test.cc has early ends and their notifications.
#include "larder/connector/intake.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <thread>
#include <vector>

#include "larder/base/random.h"
#include "larder/connector/intake_test_support.h"

namespace larder {
namespace {

using intake_test::IntakeTest;
using intake_test::kLoads;
using intake_test::kLookups;
using intake_test::kSecond;
using intake_test::kStores;
using intake_test::Sent;

// --- There and back -----------------------------------------------------------------------------

TEST_F(IntakeTest, WhatWasSubmittedIsTakenOnceAndComesBackWhenItsLastItemHasEnded) {
  make();
  Sent get{Op::kGet, 3};
  submit(get);
  EXPECT_EQ(submitted_, 1);
  EXPECT_EQ(intake_->take(kStores).batch, nullptr);
  std::vector<Ticket> runs;
  while (const Ticket ticket = intake_->take(kLoads)) runs.push_back(ticket);
  ASSERT_EQ(runs.size(), 3U);
  EXPECT_TRUE(runs[0].is_more);
  EXPECT_FALSE(runs[2].is_more);
  work_off(runs[2], Outcome::kMiss);
  work_off(runs[0], Outcome::kHit);
  EXPECT_TRUE(reap().empty());
  pollfd readable{intake_->event_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  work_off(runs[1], Outcome::kHit, Error{ErrorCode::kIo, "test", "bad"});
  EXPECT_EQ(::poll(&readable, 1, 0), 1);
  EXPECT_TRUE(is_back(get));
  EXPECT_EQ(get.items[0].outcome, Outcome::kHit);
  EXPECT_EQ(get.items[1].outcome, Outcome::kFailed);
  EXPECT_EQ(get.items[1].error.code(), ErrorCode::kIo);
  EXPECT_EQ(get.items[2].outcome, Outcome::kMiss);
}

TEST_F(IntakeTest, AnAdmittedBatchIsWorkedOffAtOnceAndIsInNoQueue) {
  make();
  Sent exists{Op::kExists, 2};
  ASSERT_TRUE(intake_->admit(exists.batch));
  EXPECT_EQ(submitted_, 0);
  EXPECT_FALSE(intake_->has_queued(kLookups));
  work_off({&exists.batch, exists.items, false}, Outcome::kHit);
  EXPECT_TRUE(is_back(exists));
}

TEST_F(IntakeTest, AnOutcomeThatTheOperationCannotHaveIsAnInternalError) {
  make();
  Sent set{Op::kSet, 1};
  submit(set);
  work_off(intake_->take(kStores), Outcome::kHit);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].error.code(), ErrorCode::kInternal);
}

TEST_F(IntakeTest, AnIllegalItemEndsItselfAndNoOther) {
  make();
  Sent set{Op::kSet, 2};
  set.items[0].key = {};
  submit(set);
  work_off_all(Outcome::kDone);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].error.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(set.items[1].outcome, Outcome::kDone);
}

// --- Limits -------------------------------------------------------------------------------------

TEST_F(IntakeTest, ARefusedBatchIsUntouchedAndRoomComesWithTheEndNotWithReap) {
  make(BatchLimitOptions{.batches_max = 1, .bytes_max = 100});
  Sent first{Op::kGet, 50};
  Sent second{Op::kGet, 1};
  Sent lookup{Op::kExists, 1};
  submit(first);  // More than the limit: the class is idle.
  second.items[0].outcome = Outcome::kHit;
  EXPECT_EQ(intake_->submit(second.batch).error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(second.items[0].outcome, Outcome::kHit);
  submit(lookup);  // A class of its own.
  EXPECT_EQ(counter("batches_queued_load"), 1U);
  work_off_all(Outcome::kMiss);
  submit(second);
  work_off_all(Outcome::kMiss);
  EXPECT_EQ(reap().size(), 3U);
}

TEST_F(IntakeTest, ABatchThatWaitsForRoomComesInByOrderOfArrivalWhenThereIsSome) {
  make(BatchLimitOptions{.batches_max = 1, .bytes_max = 100});
  Sent first{Op::kGet, 1};
  Sent second{Op::kGet, 1, Urgency::kBackground};
  Sent third{Op::kGet, 1};
  Sent refused{Op::kGet, 1};
  submit(first);
  for (Sent* sent : {&second, &third}) {
    sent->batch.waits_for_room = true;
    submit(*sent);
  }
  EXPECT_FALSE(intake_->submit(refused.batch));
  const int told = submitted_;
  work_off(intake_->take(kLoads), Outcome::kMiss);
  EXPECT_EQ(submitted_, told + 1);
  EXPECT_FALSE(intake_->submit(refused.batch)) << "it would overtake";
  EXPECT_EQ(counter("batches_in_flight_load"), 1U);
  for (Sent* sent : {&second, &third}) {
    const Ticket ticket = intake_->take(kLoads);
    EXPECT_EQ(ticket.batch, &sent->batch);
    EXPECT_FALSE(intake_->take(kLoads));
    work_off(ticket, Outcome::kMiss);
  }
  EXPECT_EQ(counter("batches_waited_for_room_total"), 2U);
  EXPECT_EQ(counter("batches_in_flight_load"), 0U);
  EXPECT_EQ(reap().size(), 3U);
}

TEST_F(IntakeTest, NothingOvertakesWhatWaitsForRoomThoughItWouldFit) {
  make({.batches_max = 10, .bytes_max = 10});
  Sent first{Op::kGet, 1, Urgency::kDemand, 8};
  Sent large{Op::kGet, 1, Urgency::kDemand, 8};
  Sent small{Op::kGet, 1, Urgency::kDemand, 2};
  Sent refused{Op::kGet, 1, Urgency::kDemand, 2};
  large.batch.waits_for_room = small.batch.waits_for_room = true;
  submit(first);
  submit(large);
  submit(small);
  EXPECT_EQ(intake_->submit(refused.batch).error().code(), ErrorCode::kResourceExhausted);
  const Ticket ticket = intake_->take(kLoads);
  EXPECT_EQ(ticket.batch, &first.batch);
  EXPECT_FALSE(intake_->take(kLoads));
  work_off(ticket, Outcome::kHit);
  EXPECT_TRUE(is_back(first));
  for (Sent* const next : {&large, &small}) {
    const Ticket taken = intake_->take(kLoads);
    ASSERT_EQ(taken.batch, &next->batch);
    work_off(taken, Outcome::kHit);
    EXPECT_TRUE(is_back(*next));
  }
}

TEST_F(IntakeTest, WhatWasTakenIsNotBegunPastItsDeadlineOrWhileItIsDown) {
  make();
  Sent late{Op::kSet, 1};
  late.batch.deadline_ns = clock_.now_ns() + kSecond;
  Sent change{Op::kSet, 1};
  submit(late);
  const Ticket of_late = intake_->take(kStores);
  submit(change);
  const Ticket of_change = intake_->take(kStores);
  clock_.advance_ns(kSecond);
  EXPECT_FALSE(intake_->begin(late.batch, late.items[0]));
  EXPECT_EQ(late.items[0].error.code(), ErrorCode::kDeadlineExceeded);
  intake_->set_down(true);
  EXPECT_FALSE(intake_->begin(change.batch, change.items[0]));
  EXPECT_EQ(change.items[0].error.code(), ErrorCode::kUnavailable);
  intake_->finish(of_late);
  intake_->finish(of_change);
  EXPECT_EQ(reap().size(), 2U);
}

TEST_F(IntakeTest, WhatWaitsForRoomEndsAtItsDeadlineByCancelAndByStop) {
  make(BatchLimitOptions{.batches_max = 1, .bytes_max = 100});
  Sent first{Op::kSet, 1};
  Sent late{Op::kSet, 1};
  Sent cancelled{Op::kSet, 1};
  Sent stopped{Op::kSet, 1};
  submit(first);
  const Ticket ticket = intake_->take(kStores);
  late.batch.deadline_ns = clock_.now_ns() + kSecond;
  for (Sent* sent : {&late, &cancelled, &stopped}) {
    sent->batch.waits_for_room = true;
    submit(*sent);
  }
  clock_.advance_ns(kSecond);
  intake_->expire();
  EXPECT_TRUE(is_back(late));
  EXPECT_EQ(late.items[0].error.code(), ErrorCode::kDeadlineExceeded);
  intake_->cancel(cancelled.batch);
  EXPECT_TRUE(is_back(cancelled));
  intake_->stop();
  EXPECT_TRUE(is_back(stopped));
  work_off(ticket, Outcome::kDone);
  EXPECT_TRUE(is_back(first));
  EXPECT_EQ(counter("bytes_in_flight_store"), 0U);
}

// --- Urgency ------------------------------------------------------------------------------------

TEST_F(IntakeTest, UrgenciesShareByWeightAndNoneIsStarved) {
  make();
  constexpr std::size_t kItems = 200;
  constexpr std::array kUrgencies{Urgency::kDemand, Urgency::kPrefetch, Urgency::kStore,
                                  Urgency::kBackground};
  std::vector<std::unique_ptr<Sent>> sent;
  for (const Urgency urgency : kUrgencies) {
    sent.push_back(std::make_unique<Sent>(Op::kGet, kItems, urgency));
    submit(*sent.back());
  }
  std::array<int, kUrgencyCount> taken{};
  for (int i = 0; i < 150; ++i) {
    const Ticket ticket = intake_->take(kLoads);
    ++taken[static_cast<std::size_t>(ticket.batch->urgency)];
    work_off(ticket, Outcome::kMiss);
  }
  EXPECT_NEAR(taken[0], 80, 2);
  EXPECT_NEAR(taken[1], 40, 2);
  EXPECT_NEAR(taken[2], 20, 2);
  EXPECT_NEAR(taken[3], 10, 2);
  work_off_all(Outcome::kMiss);
  reap();
}

TEST_F(IntakeTest, WhatWaitedForNothingHasNoClaimToThePast) {
  make();
  Sent early{Op::kGet, 100};
  submit(early);
  for (int i = 0; i < 50; ++i) work_off(intake_->take(kLoads), Outcome::kMiss);
  Sent late{Op::kGet, 10, Urgency::kBackground};
  submit(late);
  int of_late = 0;
  for (int i = 0; i < 18; ++i) {
    const Ticket ticket = intake_->take(kLoads);
    of_late += ticket.batch == &late.batch ? 1 : 0;
    work_off(ticket, Outcome::kMiss);
  }
  EXPECT_LE(of_late, 3);
  EXPECT_GE(of_late, 1);
  work_off_all(Outcome::kMiss);
  reap();
}

TEST_F(IntakeTest, OneKeyDoesNotWaitForAHundredThousandLookups) {
  make();
  Sent many{Op::kExists, 100'000};
  Sent one{Op::kExists, 1};
  submit(many);
  submit(one);
  int before = 0;
  while (intake_->take(kLookups).batch != &one.batch) ++before;
  EXPECT_LE(before, 64);
  intake_->begin(one.batch, one.items[0]);
  one.items[0].outcome = Outcome::kMiss;
  intake_->end(one.batch, one.items[0], {});
  intake_->finish(one.batch, 1);
  EXPECT_TRUE(is_back(one));
  intake_->finish(many.batch, static_cast<std::size_t>(before));
  intake_->cancel(many.batch);
  EXPECT_TRUE(is_back(many));
}

TEST_F(IntakeTest, RunsOfABatchDifferByAtMostOne) {
  make();
  for (std::size_t items = 1; items < 40; ++items) {
    for (std::uint32_t tickets_max = 1; tickets_max < 12; ++tickets_max) {
      for (const std::uint32_t items_min : {1U, 4U}) {
        Sent get{Op::kGet, items};
        submit(get);
        const std::size_t expected = std::clamp<std::size_t>(items / items_min, 1, tickets_max);
        std::size_t runs = 0;
        while (const Ticket ticket = intake_->take(kLoads, 0, {tickets_max, items_min})) {
          ++runs;
          EXPECT_GE(ticket.items.size(), items / expected);
          EXPECT_LE(ticket.items.size(), (items + expected - 1) / expected);
          work_off(ticket, Outcome::kMiss);
        }
        EXPECT_EQ(runs, expected) << items << " items, " << tickets_max << " runs";
        EXPECT_TRUE(is_back(get));
      }
    }
  }
}

TEST_F(IntakeTest, AQueueThatIsLeftOutKeepsItsBatchesAndARunThatIsPutBackComesFirst) {
  IntakeOptions options;
  options.lane_of = [](Op) noexcept -> LaneNumber { return 0; };
  make(options);
  Sent set{Op::kSet, 2};
  Sent get{Op::kGet, 1};
  submit(set);
  const Ticket blocked = intake_->take(0);
  intake_->put_back(blocked);
  EXPECT_EQ(counter("batches_queued_store"), 1U);
  submit(get);
  EXPECT_EQ(intake_->take(0, queues_of(Op::kSet)).batch, &get.batch);
  EXPECT_FALSE(intake_->take(0, queues_of(Op::kSet)));
  const Ticket again = intake_->take(0);
  EXPECT_EQ(again.items.data(), blocked.items.data());
  const Ticket last = intake_->take(0);
  intake_->put_back(last);  // It had left its queue.
  EXPECT_EQ(intake_->take(0).items.data(), last.items.data());
  for (Sent* sent : {&set, &get}) intake_->finish(sent->batch, sent->items.size());
  EXPECT_EQ(reap().size(), 2U);
}

// --- Many threads -------------------------------------------------------------------------------

/// Submitters, owners and one that cancels: every batch comes back once, with all its items ended.
TEST_F(IntakeTest, EveryBatchComesBackOnceWhateverThreadsDo) {
  constexpr std::size_t kSubmitters = 2;
  constexpr std::uint64_t kBatches = 2000;
  make();
  std::atomic<std::uint64_t> left = kSubmitters * kBatches;
  std::vector<std::vector<std::unique_ptr<Sent>>> sent(kSubmitters);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kSubmitters; ++i) {
    for (std::uint64_t k = 0; k < kBatches; ++k) {
      sent[i].push_back(std::make_unique<Sent>(k % 2 == 0 ? Op::kGet : Op::kSet, 1 + k % 5));
      if (k % 7 == 0) sent[i].back()->batch.deadline_ns = clock_.now_ns() + k * 1000;
    }
    threads.emplace_back([this, &mine = sent[i]] {
      for (const auto& one : mine) ASSERT_TRUE(intake_->submit(one->batch));
    });
  }
  for (const LaneNumber lane : {kLoads, kStores}) {
    threads.emplace_back([this, lane, &left] {
      Random random{lane};
      while (left > 0) {
        if (random.below(50) == 0) intake_->set_down(random.below(2) == 0);
        const Ticket ticket = intake_->take(lane);
        if (!ticket) {
          intake_->expire();
          std::this_thread::yield();
        } else if (random.below(8) == 0) {
          intake_->put_back(ticket);
        } else {
          work_off(ticket, lane == kLoads ? Outcome::kHit : Outcome::kDone);
        }
      }
    });
  }
  while (left > 0) {
    clock_.advance_ns(1000);
    const std::vector<Batch*> done = reap();
    left -= done.size();
    for (const Batch* batch : done) {
      for (const Item& item : batch->items) ASSERT_NE(item.outcome, Outcome::kPending);
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(reap().empty());
  EXPECT_EQ(counter("batches_in_flight_load"), 0U);
  EXPECT_EQ(counter("bytes_in_flight_store"), 0U);
}

}  // namespace
}  // namespace larder
