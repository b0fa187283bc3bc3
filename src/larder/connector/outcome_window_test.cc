#include "larder/connector/outcome_window.h"

#include <gtest/gtest.h>

#include <vector>

namespace larder {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr Error kDisk = Error::from_errno(EIO, "log", "writing a record");

class OutcomeWindowTest : public testing::Test {
 protected:
  void note(Op op, std::size_t succeeded, std::size_t failed, const Error& error = kDisk) {
    std::vector<Item> items(succeeded + failed);
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].outcome = i < succeeded ? Outcome::kDone : Outcome::kFailed;
      if (i >= succeeded) items[i].error = error;
    }
    Batch batch;
    batch.op = op;
    batch.items = items;
    window_.note(batch);
  }
  Report report() const {
    Report made;
    window_.append_report(made);
    return made;
  }

  ManualClock clock_{1'000 * kSecondNs};
  OutcomeWindow window_{clock_};
};

TEST_F(OutcomeWindowTest, WithoutAnyOperationItIsHealthy) {
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_FALSE(report().is_failing());
}

TEST_F(OutcomeWindowTest, CountsWhatCallersGotByClass) {
  note(Op::kExists, 3, 0);
  note(Op::kTouch, 1, 0);
  note(Op::kGet, 50, 2);
  note(Op::kSet, 5, 0);
  note(Op::kDelete, 1, 0);
  const Report made = report();
  EXPECT_EQ(made.recent[0].succeeded, 4U);
  EXPECT_EQ(made.recent[1].succeeded, 50U);
  EXPECT_EQ(made.recent[1].failed, 2U);
  EXPECT_EQ(made.recent[2].succeeded, 6U);
  EXPECT_EQ(made.health, Health::kHealthy) << "two of 52 are below one in twenty";
}

TEST_F(OutcomeWindowTest, ManyFailuresDegradeThoughTheLastOneSucceeded) {
  note(Op::kSet, 0, 152);
  note(Op::kSet, 48, 0);
  const Report made = report();
  EXPECT_EQ(made.health, Health::kDegraded);
  ASSERT_EQ(made.reasons.size(), 1U);
  EXPECT_EQ(made.reasons[0],
            "152 of 200 stores of the last minute failed; the last error: log: writing a record: "
            "Input/output error (errno 5)");
  EXPECT_FALSE(made.is_failing()) << "some succeed";
}

TEST_F(OutcomeWindowTest, OneInTwentyIsTrouble) {
  note(Op::kGet, 19, 1);
  EXPECT_EQ(report().health, Health::kDegraded);
  note(Op::kGet, 1, 0);
  EXPECT_EQ(report().health, Health::kHealthy);
}

TEST_F(OutcomeWindowTest, AClassOfWhichNothingWorksIsFailingWhateverTheOthersDo) {
  note(Op::kExists, 100, 0);
  note(Op::kSet, 0, 2);
  EXPECT_FALSE(report().is_failing()) << "two are too few to tell";
  note(Op::kSet, 0, 1);
  EXPECT_TRUE(report().is_failing());
  EXPECT_NE(report().reasons.at(0).find("all 3 stores"), std::string::npos);
  note(Op::kSet, 1, 0);
  EXPECT_FALSE(report().is_failing());
}

TEST_F(OutcomeWindowTest, IsOverAfterTenSecondsOfWorkWithoutAFailure) {
  note(Op::kSet, 0, 10);
  clock_.advance_ns(kSecondNs);
  note(Op::kSet, 1, 0);
  clock_.advance_ns(8 * kSecondNs);
  EXPECT_EQ(report().health, Health::kDegraded);
  clock_.advance_ns(kSecondNs);
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_EQ(report().recent[2].failed, 10U) << "they are counted all the same";
}

TEST_F(OutcomeWindowTest, WithoutWorkItIsOverAfterAMinute) {
  note(Op::kSet, 0, 10);
  clock_.advance_ns(59 * kSecondNs);
  EXPECT_EQ(report().health, Health::kDegraded);
  EXPECT_TRUE(report().is_failing());
  clock_.advance_ns(kSecondNs);
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_FALSE(report().is_failing());
  EXPECT_EQ(report().recent[2].failed, 0U);
}

TEST_F(OutcomeWindowTest, ASecondOfTheMinuteBeforeIsForgottenWhenItsPlaceIsUsedAgain) {
  note(Op::kSet, 7, 0);
  clock_.advance_ns(60 * kSecondNs);
  note(Op::kSet, 1, 0);
  EXPECT_EQ(report().recent[2].succeeded, 1U);
}

TEST_F(OutcomeWindowTest, WhatTheCallerDidIsNotCounted) {
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kCancelled, ErrorCode::kSizeMismatch}) {
    note(Op::kGet, 0, 20, Error{code, "x", "y"});
  }
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_EQ(report().recent[1].failed, 0U);
}

TEST_F(OutcomeWindowTest, KeepsAWorseHealthAndItsReasons) {
  note(Op::kSet, 0, 10);
  Report made;
  made.health = Health::kDown;
  made.reasons = {"the peer is gone"};
  window_.append_report(made);
  EXPECT_EQ(made.health, Health::kDown);
  EXPECT_EQ(made.reasons.size(), 2U);
}

}  // namespace
}  // namespace larder
