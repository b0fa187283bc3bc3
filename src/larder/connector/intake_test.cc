#include "larder/connector/intake.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/random.h"
#include "larder/connector/metrics.h"

namespace larder {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr LaneNumber kLookups = 0;
constexpr LaneNumber kLoads = 1;
constexpr LaneNumber kStores = 2;

/// A batch of `keys` keys, whose values have `bytes` bytes each.
struct Sent {
  Sent(Op op, std::size_t keys, Urgency urgency = Urgency::kDemand, std::size_t bytes = 8)
      : memory(bytes), names(keys), slice{.data = memory.data(), .bytes = bytes}, items(keys) {
    for (std::size_t i = 0; i < keys; ++i) {
      names[i] = "key" + std::to_string(i);
      items[i].key = std::as_bytes(std::span{names[i]});
      if (op == Op::kGet || op == Op::kSet) items[i].value = {&slice, 1};
    }
    batch.items = items;
    batch.op = op;
    batch.urgency = urgency;
  }

  std::vector<std::byte> memory;
  std::vector<std::string> names;
  Slice slice;
  std::vector<Item> items;
  Batch batch;
};

class IntakeTest : public ::testing::Test, protected IntakeOwner {
 protected:
  void make(BatchLimitOptions limits = {}) {
    IntakeOptions options;
    options.limits = limits;
    make(options);
  }
  void make(const IntakeOptions& options) {
    intake_ = std::make_unique<Intake>(options, clock_);
    intake_->set_owner(this);
  }
  void submit(Sent& sent) { ASSERT_TRUE(intake_->submit(sent.batch)); }
  /// The batches that are back.
  std::vector<Batch*> reap() {
    std::array<Batch*, 64> done{};
    const std::size_t count = intake_->reap(done);
    return {done.begin(), done.begin() + static_cast<std::ptrdiff_t>(count)};
  }
  bool is_back(const Sent& sent) { return reap() == std::vector<Batch*>{batch_of(sent)}; }
  static Batch* batch_of(const Sent& sent) { return const_cast<Batch*>(&sent.batch); }
  void work_off(const Ticket& ticket, Outcome outcome, const Status& status = {}) {
    for (Item& item : ticket.items) {
      if (!intake_->begin(*ticket.batch, item)) continue;
      item.outcome = outcome;
      intake_->end(*ticket.batch, item, status);
    }
    intake_->finish(ticket);
  }
  void work_off_all(Outcome outcome) {
    for (const LaneNumber lane : {kLookups, kLoads, kStores}) {
      while (const Ticket ticket = intake_->take(lane)) work_off(ticket, outcome);
    }
  }
  std::uint64_t counter(const std::string& name) const {
    Report report;
    intake_->append_report(report);
    const auto value = metric_value(report, name);
    EXPECT_TRUE(value.has_value()) << name;
    return value.value_or(0);
  }

  void on_submitted(Op /*op*/) noexcept override { ++submitted_; }
  void on_cancelled() noexcept override { ++cancelled_; }

  ManualClock clock_;
  int submitted_ = 0;
  int cancelled_ = 0;
  std::unique_ptr<Intake> intake_;
};

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

TEST_F(IntakeTest, AWrongSizeIsAFailureOfTheKeyWhereTheCallerWantsThat) {
  make();
  constexpr Error kWrong{ErrorCode::kSizeMismatch, "test", "another size"};
  for (const bool misses : {false, true}) {
    Sent get{Op::kGet, 1};
    get.batch.misses_wrong_sizes = misses;
    submit(get);
    work_off(intake_->take(kLoads), Outcome::kHit, kWrong);
    EXPECT_TRUE(is_back(get));
    EXPECT_EQ(get.items[0].error.code(), ErrorCode::kSizeMismatch);
    EXPECT_EQ(intake_->probe_failed(get.items), misses);
    clock_.advance_ns(IntakeOptions{}.miss_after_failure_ns);
    EXPECT_FALSE(intake_->probe_failed(get.items));
  }
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

// --- Deadlines, cancel, stop, down --------------------------------------------------------------

TEST_F(IntakeTest, AtTheDeadlineWhatIsQueuedFailsAndWhatWasTakenGoesOn) {
  make();
  Sent set{Op::kSet, 3};
  set.batch.deadline_ns = clock_.now_ns() + kSecond;
  submit(set);
  EXPECT_EQ(intake_->next_deadline_ns(), set.batch.deadline_ns);
  const Ticket ticket = intake_->take(kStores);
  clock_.advance_ns(kSecond - 1);
  intake_->expire();
  EXPECT_TRUE(intake_->has_queued(kStores));
  EXPECT_TRUE(intake_->begin(set.batch, ticket.items[0]));
  clock_.advance_ns(1);
  intake_->expire();
  EXPECT_FALSE(intake_->has_queued(kStores));
  EXPECT_EQ(intake_->next_deadline_ns(), kNever);
  EXPECT_TRUE(reap().empty());
  ticket.items[0].outcome = Outcome::kDone;
  intake_->end(set.batch, ticket.items[0], {});
  intake_->finish(ticket);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].outcome, Outcome::kDone);
  EXPECT_EQ(set.items[2].error.code(), ErrorCode::kDeadlineExceeded);
}

TEST_F(IntakeTest, ARunThatIsPutBackPastItsDeadlineExpires) {
  make();
  Sent get{Op::kGet, 1};
  get.batch.deadline_ns = clock_.now_ns() + kSecond;
  submit(get);
  const Ticket ticket = intake_->take(kLoads);
  clock_.advance_ns(2 * kSecond);
  intake_->put_back(ticket);
  intake_->expire();
  EXPECT_TRUE(is_back(get));
  EXPECT_EQ(get.items[0].error.code(), ErrorCode::kDeadlineExceeded);
}

TEST_F(IntakeTest, CancelEndsWhatNobodyHasTakenAtOnceAndTellsTheOwnerOfTheRest) {
  make();
  Sent set{Op::kSet, 2};
  Sent other{Op::kSet, 1};
  submit(set);
  submit(other);
  const Ticket ticket = intake_->take(kStores);
  intake_->cancel(set.batch);
  EXPECT_EQ(cancelled_, 1);
  EXPECT_TRUE(Intake::is_cancelled(set.batch));
  EXPECT_EQ(set.items[1].error.code(), ErrorCode::kCancelled);
  work_off(ticket, Outcome::kDone);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].error.code(), ErrorCode::kCancelled);
  intake_->cancel(other.batch);
  EXPECT_TRUE(is_back(other));
}

TEST_F(IntakeTest, ARunOfACancelledBatchThatIsPutBackHasEnded) {
  make();
  Sent set{Op::kSet, 2};
  submit(set);
  const Ticket ticket = intake_->take(kStores);
  intake_->cancel(set.batch);
  intake_->put_back(ticket);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].error.code(), ErrorCode::kCancelled);
}

TEST_F(IntakeTest, AfterStopNothingIsAcceptedAndWhatIsLeftComesBack) {
  make();
  Sent queued{Op::kGet, 2};
  Sent taken{Op::kSet, 1};
  Sent later{Op::kGet, 1};
  submit(queued);
  submit(taken);
  const Ticket ticket = intake_->take(kStores);
  intake_->stop();
  EXPECT_FALSE(intake_->wait_until_idle(0));
  EXPECT_EQ(intake_->submit(later.batch).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(intake_->admit(later.batch).error().code(), ErrorCode::kCancelled);
  EXPECT_TRUE(is_back(queued));
  intake_->put_back(ticket);
  EXPECT_TRUE(intake_->wait_until_idle(0));
  EXPECT_TRUE(is_back(taken));
  EXPECT_EQ(taken.items[0].error.code(), ErrorCode::kCancelled);
}

TEST_F(IntakeTest, DownAnswersAtOnceUntilItIsOver) {
  make();
  Sent get{Op::kGet, 2};
  Sent set{Op::kSet, 1};
  Sent begun{Op::kSet, 1};
  submit(begun);
  const Ticket ticket = intake_->take(kStores);
  submit(set);
  intake_->set_down(true);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(set.items[0].error.code(), ErrorCode::kUnavailable);
  submit(get);
  EXPECT_TRUE(is_back(get));
  EXPECT_EQ(get.items[0].outcome, Outcome::kMiss);
  intake_->put_back(ticket);
  EXPECT_TRUE(is_back(begun));
  EXPECT_EQ(begun.items[0].error.code(), ErrorCode::kUnavailable);
  intake_->set_down(false);
  submit(get);
  EXPECT_TRUE(reap().empty());
  work_off_all(Outcome::kHit);
  EXPECT_TRUE(is_back(get));
  EXPECT_EQ(get.items[0].outcome, Outcome::kHit);  // A miss while it was down says nothing.
}

TEST_F(IntakeTest, ALaneThatIsDownIsAnsweredAndTheOthersGoOn) {
  make({.batches_max = 1, .bytes_max = 1'000});
  Sent load{Op::kGet, 1};
  Sent waiting{Op::kGet, 1};
  waiting.batch.waits_for_room = true;
  Sent lookup{Op::kExists, 1};
  submit(load);
  submit(waiting);
  submit(lookup);
  intake_->set_lane_down(kLoads, true);
  EXPECT_FALSE(intake_->is_down());
  EXPECT_EQ(reap().size(), 2U) << "what waits for room is answered, too";
  EXPECT_EQ(load.items[0].miss_reason, MissReason::kDown);
  EXPECT_EQ(waiting.items[0].miss_reason, MissReason::kDown);
  work_off_all(Outcome::kHit);
  EXPECT_TRUE(is_back(lookup));
  EXPECT_EQ(lookup.items[0].outcome, Outcome::kHit);
  submit(load);
  EXPECT_TRUE(is_back(load));
  intake_->set_lane_down(kLoads, false);
  submit(load);
  work_off_all(Outcome::kHit);
  EXPECT_TRUE(is_back(load));
  EXPECT_EQ(load.items[0].outcome, Outcome::kHit);
  for (const LaneNumber lane : {kLookups, kLoads, kStores}) intake_->set_lane_down(lane, true);
  EXPECT_TRUE(intake_->is_down());
}

TEST_F(IntakeTest, WhatIsChangedWhileALaneIsDownFailsWithTheReasonTheOwnerGave) {
  make();
  Sent queued{Op::kSet, 1};
  submit(queued);
  intake_->set_lane_down(kStores, Error{ErrorCode::kUnavailable, "test", "no server there"});
  ASSERT_TRUE(is_back(queued));
  EXPECT_EQ(queued.items[0].error.what(), "no server there");
  Sent later{Op::kDelete, 1};
  submit(later);
  ASSERT_TRUE(is_back(later));
  EXPECT_EQ(later.items[0].error.what(), "no server there");
  intake_->set_lane_down(kStores, true);
  submit(later);
  ASSERT_TRUE(is_back(later));
  EXPECT_NE(later.items[0].error.what(), "no server there");
}

// --- C6 -----------------------------------------------------------------------------------------

TEST_F(IntakeTest, AKeyWhoseGetFailedIsAMissUntilItIsStored) {
  IntakeOptions options;
  options.miss_after_failure_ns = kSecond;
  make(options);
  Sent get{Op::kGet, 1};
  submit(get);
  work_off(intake_->take(kLoads), Outcome::kHit, Error{ErrorCode::kCorruption, "test", "bad"});
  EXPECT_TRUE(is_back(get));
  clock_.advance_ns(1000 * kSecond);
  for (const Op op : {Op::kGet, Op::kExists, Op::kTouch}) {
    Sent read{op, 1};
    submit(read);
    work_off_all(op == Op::kTouch ? Outcome::kDone : Outcome::kHit);
    EXPECT_TRUE(is_back(read));
    EXPECT_EQ(read.items[0].outcome, Outcome::kMiss);
    EXPECT_TRUE(intake_->probe_failed(read.items));
  }
  Sent set{Op::kSet, 1};
  EXPECT_EQ(intake_->set_mode_of(set.batch, set.items[0]), SetMode::kReplace);
  submit(set);
  work_off_all(Outcome::kDone);
  EXPECT_TRUE(is_back(set));
  EXPECT_EQ(intake_->set_mode_of(set.batch, set.items[0]), SetMode::kIfAbsent);
  submit(get);
  work_off_all(Outcome::kHit);
  EXPECT_TRUE(is_back(get));
  EXPECT_EQ(get.items[0].outcome, Outcome::kHit);
}

TEST_F(IntakeTest, ASetThatKeptAValueDoesNotMakeAFailedKeyReadable) {
  make();
  Sent keeping{Op::kSet, 1};
  submit(keeping);
  const Ticket begun = intake_->take(kStores);
  Sent failing{Op::kGet, 1};
  submit(failing);
  work_off(intake_->take(kLoads), Outcome::kHit, Error{ErrorCode::kCorruption, "test", "bad"});
  EXPECT_TRUE(is_back(failing));
  ASSERT_TRUE(intake_->begin(*begun.batch, begun.items[0]));
  begun.items[0].outcome = Outcome::kDone;
  begun.items[0].existed = true;
  intake_->end(*begun.batch, begun.items[0], {});
  intake_->finish(begun);
  EXPECT_TRUE(is_back(keeping));
  Sent get{Op::kGet, 1};
  EXPECT_TRUE(intake_->probe_failed(get.items)) << "what it kept is what could not be read";
}

TEST_F(IntakeTest, AKeyWhoseGetWasLateIsAMissForAWhile) {
  IntakeOptions options;
  options.miss_after_failure_ns = kSecond;
  make(options);
  Sent late{Op::kGet, 1};
  late.batch.deadline_ns = clock_.now_ns();
  submit(late);
  intake_->expire();
  EXPECT_TRUE(is_back(late));
  Sent get{Op::kGet, 1};
  for (const Outcome expected : {Outcome::kMiss, Outcome::kHit}) {
    submit(get);
    work_off_all(Outcome::kHit);
    EXPECT_TRUE(is_back(get));
    EXPECT_EQ(get.items[0].outcome, expected);
    clock_.advance_ns(kSecond);
  }
}

// --- What it tells ------------------------------------------------------------------------------

TEST_F(IntakeTest, EveryMissSaysWhy) {
  make();
  const auto reason_of_load = [&] {
    Sent get{Op::kGet, 1};
    submit(get);
    work_off_all(Outcome::kMiss);
    EXPECT_TRUE(is_back(get));
    EXPECT_EQ(get.items[0].outcome, Outcome::kMiss);
    return get.items[0].miss_reason;
  };
  const auto fail_load = [&](ErrorCode code) {
    Sent get{Op::kGet, 1};
    submit(get);
    work_off(intake_->take(kLoads), Outcome::kHit, Error{code, "test", "bad"});
    EXPECT_TRUE(is_back(get));
  };
  const auto store = [&] {
    Sent set{Op::kSet, 1};
    submit(set);
    work_off_all(Outcome::kDone);
    EXPECT_TRUE(is_back(set));
  };
  EXPECT_EQ(reason_of_load(), MissReason::kAbsent);
  fail_load(ErrorCode::kCorruption);
  EXPECT_EQ(reason_of_load(), MissReason::kFailedBefore);
  store();
  fail_load(ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(reason_of_load(), MissReason::kLate);
  Sent probe{Op::kExists, 1};
  EXPECT_TRUE(intake_->probe_failed(probe.items));
  EXPECT_EQ(probe.items[0].miss_reason, MissReason::kLate);
  intake_->set_down(true);
  EXPECT_EQ(reason_of_load(), MissReason::kDown);
  intake_->set_down(false);
  store();
  intake_->note_bad_value(probe.items[0].key);
  EXPECT_EQ(reason_of_load(), MissReason::kOther);

  Report report;
  intake_->append_report(report);
  using Misses = std::array<std::uint64_t, kMissReasonCount>;
  EXPECT_EQ(report.operation(Op::kGet).total.misses, (Misses{1, 1, 1, 1, 1}));
  EXPECT_EQ(report.operation(Op::kGet).total.failed, 2U);
  EXPECT_EQ(report.operation(Op::kExists).total.misses, (Misses{0, 0, 0, 1, 0}));
}

TEST_F(IntakeTest, TellsHowLongTheOldestHasWaitedAndHowLongBatchesTook) {
  make({.batches_max = 2, .bytes_max = 1'000});
  const auto report_of = [&](BatchClass batch_class) {
    Report report;
    intake_->append_report(report);
    return report.of_class(batch_class);
  };
  EXPECT_EQ(report_of(BatchClass::kLoad).oldest_queued_ns, 0U);
  Sent first{Op::kGet, 1, Urgency::kBackground};
  Sent second{Op::kGet, 1};
  Sent waiting{Op::kGet, 1};
  waiting.batch.waits_for_room = true;
  submit(first);
  clock_.advance_ns(kSecond);
  submit(second);
  submit(waiting);
  clock_.advance_ns(kSecond);
  EXPECT_EQ(report_of(BatchClass::kLoad).oldest_queued_ns, 2 * kSecond);
  EXPECT_EQ(report_of(BatchClass::kLoad).batches_queued, 3U);
  EXPECT_EQ(report_of(BatchClass::kStore).oldest_queued_ns, 0U);
  intake_->cancel(first.batch);
  EXPECT_EQ(report_of(BatchClass::kLoad).oldest_queued_ns, kSecond);
  intake_->cancel(second.batch);
  EXPECT_EQ(report_of(BatchClass::kLoad).oldest_queued_ns, kSecond) << "what waits for room counts";
  clock_.advance_ns(kSecond);
  work_off_all(Outcome::kHit);
  EXPECT_EQ(reap().size(), 3U);
  const ClassReport loads = report_of(BatchClass::kLoad);
  EXPECT_EQ(loads.oldest_queued_ns, 0U);
  EXPECT_EQ(loads.latency.batches, 3U);
  EXPECT_EQ(loads.latency.sum_ns, (2 + 1 + 2) * kSecond) << "queueing included";
}

// --- Many threads -------------------------------------------------------------------------------

/// Submitters, owners and one that cancels: every batch comes back once, with all its items ended.
TEST_F(IntakeTest, EveryBatchComesBackOnceWhateverThreadsDo) {
  constexpr int kSubmitters = 2;
  constexpr int kBatches = 2000;
  make();
  std::atomic<int> left = kSubmitters * kBatches;
  std::vector<std::vector<std::unique_ptr<Sent>>> sent(kSubmitters);
  std::vector<std::thread> threads;
  for (int i = 0; i < kSubmitters; ++i) {
    for (int k = 0; k < kBatches; ++k) {
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
    left -= static_cast<int>(done.size());
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
