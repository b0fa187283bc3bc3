// Items that end before they are worked off (deadlines, cancellation, stop, down), keys whose Get
// failed (C6), and the notifications.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "larder/connector/intake.h"
#include "larder/connector/intake_test_support.h"

namespace larder {
namespace {

using intake_test::IntakeTest;
using intake_test::kLoads;
using intake_test::kLookups;
using intake_test::kSecond;
using intake_test::kStores;
using intake_test::Sent;

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
  EXPECT_EQ(get.items[0].outcome, Outcome::kHit);  // A miss while it was down proves nothing.
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

// ---- Hints.

TEST_F(IntakeTest, AHintThatTheConnectorDoesNotHaveIsRefusedAndNothingElseHappens) {
  IntakeOptions options;
  options.hints = bit_of(Hint::kPin);
  make(options);
  for (const Hint hint : {Hint::kPrefetch, Hint::kPin, Hint::kRetain, Hint::kRelease}) {
    Sent sent{Op::kTouch, 2};
    sent.batch.hint = hint;
    sent.batch.hold_ns = is_held(hint) ? kSecond : 0;
    submit(sent);
    work_off_all(Outcome::kDone);
    ASSERT_TRUE(is_back(sent));
    for (const Item& item : sent.items) {
      const bool is_taken = hint == Hint::kPin;
      EXPECT_EQ(item.outcome, is_taken ? Outcome::kDone : Outcome::kFailed);
      EXPECT_EQ(item.error.code(), is_taken ? ErrorCode::kNone : ErrorCode::kUnimplemented);
    }
  }
  Report report;
  intake_->append_report(report);
  EXPECT_EQ(report.health, Health::kHealthy) << "a refused hint says nothing of the store";
  EXPECT_EQ(report.operation(Op::kTouch).total.rejected, 6U);
  EXPECT_EQ(report.operation(Op::kTouch).total.failed, 0U);
}

// ---- How long a load would take: in virtual time.

TEST_F(IntakeTest, ALoadIsEstimatedByThoseThatHaveEndedAndThoseThatAreUnderWay) {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  constexpr std::uint64_t kMs = 1'000'000;
  make();
  const auto load = [&](std::size_t mib) {
    Sent sent{Op::kGet, 1, Urgency::kDemand, mib * kMiB};
    submit(sent);
    clock_.advance_ns((3 + 2 * mib) * kMs);  // 3 ms, and 2 ms for each MiB.
    const Ticket ticket = intake_->take(kLoads);
    sent.items[0].value_bytes = mib * kMiB;
    ASSERT_TRUE(intake_->begin(*ticket.batch, ticket.items[0]));
    ticket.items[0].outcome = Outcome::kHit;
    ticket.items[0].value_bytes = mib * kMiB;
    intake_->end(*ticket.batch, ticket.items[0], {});
    intake_->finish(ticket);
    ASSERT_TRUE(is_back(sent));
  };
  const auto estimate_ms = [&](std::uint64_t mib) {
    const LoadSize size{.values = 1, .bytes = mib * kMiB};
    return static_cast<double>(intake_->load_ns({&size, 1})) / 1e6;
  };
  const LoadSize size{.values = 1, .bytes = kMiB};
  EXPECT_EQ(intake_->load_ns({&size, 1}), kNever);
  for (const std::size_t mib : {1U, 4U, 2U, 8U}) load(mib);
  EXPECT_NEAR(estimate_ms(10), 23, 0.1);

  Sent ahead{Op::kGet, 1, Urgency::kDemand, 20 * kMiB};
  submit(ahead);
  EXPECT_NEAR(estimate_ms(10), 63, 0.1) << "behind the 20 MiB";
  const Ticket ticket = intake_->take(kLoads);
  work_off(ticket, Outcome::kMiss);
  ASSERT_TRUE(is_back(ahead));
  EXPECT_NEAR(estimate_ms(10), 23, 0.1) << "a miss loads nothing";

  clock_.advance_ns(61 * kSecond);
  EXPECT_EQ(intake_->load_ns({&size, 1}), kNever);
}

TEST_F(IntakeTest, ALoadThatWasLateMakesTheEstimateLonger) {
  make();
  Sent sent{Op::kGet, 1, Urgency::kDemand, 1'000'000};
  submit(sent);
  clock_.advance_ns(5 * kSecond);
  const Ticket ticket = intake_->take(kLoads);
  work_off(ticket, Outcome::kFailed, Error{ErrorCode::kDeadlineExceeded, "test", "late"});
  ASSERT_TRUE(is_back(sent));
  const LoadSize size{.values = 1, .bytes = 1'000'000};
  EXPECT_EQ(intake_->load_ns({&size, 1}), 5 * kSecond);
}

}  // namespace
}  // namespace larder
