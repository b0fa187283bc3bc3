#include "larder/connector/statistics.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace larder {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr Error kDisk = Error::from_errno(EIO, "log", "writing a record");

class StatisticsTest : public testing::Test {
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
    statistics_.note(batch);
  }
  Report report() const {
    Report made;
    statistics_.append_report(made);
    return made;
  }

  ManualClock clock_{1'000 * kSecondNs};
  Statistics statistics_{clock_};
};

TEST_F(StatisticsTest, WithoutAnyOperationItIsHealthy) {
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_FALSE(report().is_failing());
}

TEST_F(StatisticsTest, CountsWhatCallersGotByClass) {
  note(Op::kExists, 3, 0);
  note(Op::kTouch, 1, 0);
  note(Op::kGet, 50, 2);
  note(Op::kSet, 5, 0);
  note(Op::kDelete, 1, 0);
  const Report made = report();
  EXPECT_EQ(made.recent(BatchClass::kLookup).succeeded, 4U);
  EXPECT_EQ(made.recent(BatchClass::kLoad).succeeded, 50U);
  EXPECT_EQ(made.recent(BatchClass::kLoad).failed, 2U);
  EXPECT_EQ(made.recent(BatchClass::kStore).succeeded, 6U);
  EXPECT_EQ(made.health, Health::kHealthy) << "two of 52 are below one in twenty";
}

TEST_F(StatisticsTest, ManyFailuresDegradeThoughTheLastOneSucceeded) {
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

TEST_F(StatisticsTest, OneInTwentyIsTrouble) {
  note(Op::kGet, 19, 1);
  EXPECT_EQ(report().health, Health::kDegraded);
  note(Op::kGet, 1, 0);
  EXPECT_EQ(report().health, Health::kHealthy);
}

TEST_F(StatisticsTest, AClassOfWhichNothingWorksIsFailingWhateverTheOthersDo) {
  note(Op::kExists, 100, 0);
  note(Op::kSet, 0, 2);
  EXPECT_FALSE(report().is_failing()) << "two are too few to tell";
  note(Op::kSet, 0, 1);
  EXPECT_TRUE(report().is_failing());
  EXPECT_NE(report().reasons.at(0).find("all 3 stores"), std::string::npos);
  note(Op::kSet, 1, 0);
  EXPECT_FALSE(report().is_failing());
}

TEST_F(StatisticsTest, IsOverAfterTenSecondsOfWorkWithoutAFailure) {
  note(Op::kSet, 0, 10);
  clock_.advance_ns(kSecondNs);
  note(Op::kSet, 1, 0);
  clock_.advance_ns(8 * kSecondNs);
  EXPECT_EQ(report().health, Health::kDegraded);
  clock_.advance_ns(kSecondNs);
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_EQ(report().recent(BatchClass::kStore).failed, 10U) << "they are counted all the same";
}

TEST_F(StatisticsTest, WithoutWorkItIsOverAfterAMinute) {
  note(Op::kSet, 0, 10);
  clock_.advance_ns(59 * kSecondNs);
  EXPECT_EQ(report().health, Health::kDegraded);
  EXPECT_TRUE(report().is_failing());
  clock_.advance_ns(kSecondNs);
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_FALSE(report().is_failing());
  EXPECT_EQ(report().recent(BatchClass::kStore).failed, 0U);
}

TEST_F(StatisticsTest, ASecondOfTheMinuteBeforeIsForgottenWhenItsPlaceIsUsedAgain) {
  note(Op::kSet, 7, 0);
  clock_.advance_ns(60 * kSecondNs);
  note(Op::kSet, 1, 0);
  EXPECT_EQ(report().recent(BatchClass::kStore).succeeded, 1U);
}

TEST_F(StatisticsTest, WhatTheCallerDidIsNotCounted) {
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kCancelled, ErrorCode::kSizeMismatch}) {
    note(Op::kGet, 0, 20, Error{code, "x", "y"});
  }
  EXPECT_EQ(report().health, Health::kHealthy);
  EXPECT_EQ(report().recent(BatchClass::kLoad).failed, 0U);
}

TEST_F(StatisticsTest, EveryOutcomeOfEveryOperationIsCountedOnce) {
  std::array<std::byte, 7> value{};
  const Slice slice{value.data(), value.size()};
  std::array<Item, 6> items;
  const std::array outcomes{Outcome::kHit,  Outcome::kHit,    Outcome::kMiss,
                            Outcome::kDone, Outcome::kFailed, Outcome::kDone};
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].outcome = outcomes[i];
    items[i].value = {&slice, 1};
    items[i].value_bytes = 5;
    items[i].error = kDisk;
  }
  items[2].miss_reason = MissReason::kLate;
  items[5].existed = true;
  Batch load;
  load.op = Op::kGet;
  load.items = std::span{items}.first(3);
  Batch store;
  store.op = Op::kSet;
  store.items = std::span{items}.subspan(3);
  statistics_.note(load);
  statistics_.note(store);
  for (Item& item : items) item.value = {};
  statistics_.note_probe(std::span{items}.first(3));

  const Report made = report();
  const OpTotals& loads = made.operation(Op::kGet).total;
  EXPECT_EQ(loads.hits, 2U);
  EXPECT_EQ(loads.bytes, 10U);
  EXPECT_EQ(loads.missed(), 1U);
  EXPECT_EQ(loads.misses[static_cast<std::size_t>(MissReason::kLate)], 1U);
  EXPECT_EQ(loads.bytes_missed, 7U);
  EXPECT_EQ(loads.keys(), 3U);
  const OpTotals& stores = made.operation(Op::kSet).total;
  EXPECT_EQ(stores.done, 1U);
  EXPECT_EQ(stores.existed, 1U);
  EXPECT_EQ(stores.failed, 1U);
  EXPECT_EQ(stores.bytes, 7U) << "what was there already was not written";
  const OpTotals& lookups = made.operation(Op::kExists).total;
  EXPECT_EQ(lookups.hits, 2U);
  EXPECT_EQ(lookups.bytes, 10U);
  EXPECT_EQ(lookups.bytes_missed, 0U);
  EXPECT_EQ(made.of_class(BatchClass::kLookup).latency.batches, 0U) << "a probe has no time";
  EXPECT_EQ(made.operation(Op::kDelete).total.keys(), 0U);
}

TEST_F(StatisticsTest, TellsTheMinuteFromTheTimeBefore) {
  note(Op::kGet, 3, 0);
  note(Op::kSet, 2, 1);
  clock_.advance_ns(60 * kSecondNs);
  note(Op::kSet, 4, 0);
  const Report made = report();
  EXPECT_EQ(made.operation(Op::kGet).total.done, 3U);
  EXPECT_EQ(made.operation(Op::kGet).last_minute.keys(), 0U);
  EXPECT_EQ(made.operation(Op::kSet).total.keys(), 7U);
  EXPECT_EQ(made.operation(Op::kSet).last_minute.done, 4U);
  EXPECT_EQ(made.operation(Op::kSet).last_minute.failed, 0U);
}

TEST_F(StatisticsTest, BatchesHaveTimesByClass) {
  constexpr std::uint64_t kMs = 1'000'000;
  std::array<Item, 1> items;
  items[0].outcome = Outcome::kHit;
  const auto took = [&](Op op, std::uint64_t ns) {
    Batch batch;
    batch.op = op;
    batch.items = items;
    batch.connector_submitted_ns = clock_.now_ns() - ns;
    statistics_.note(batch);
  };
  for (int i = 0; i < 98; ++i) took(Op::kGet, kMs);
  took(Op::kGet, 8 * kMs);
  took(Op::kGet, 90 * kMs);
  clock_.advance_ns(61 * kSecondNs);
  took(Op::kGet, 4 * kMs);
  const Report made = report();
  const ClassReport& loads = made.of_class(BatchClass::kLoad);
  EXPECT_EQ(loads.latency.batches, 101U);
  EXPECT_EQ(loads.latency.sum_ns, (98 + 8 + 90 + 4) * kMs);
  EXPECT_GE(loads.latency.p50_ns, kMs);
  EXPECT_LE(loads.latency.p50_ns, kMs + kMs / 16);
  EXPECT_GE(loads.latency.p99_ns, 8 * kMs);
  EXPECT_LE(loads.latency.p99_ns, 9 * kMs);
  EXPECT_EQ(loads.latency.max_ns, 90 * kMs);
  EXPECT_EQ(loads.latency_last_minute.batches, 1U);
  EXPECT_EQ(loads.latency_last_minute.p99_ns, 4 * kMs);
  EXPECT_EQ(loads.batches_within.front(), 0U);
  EXPECT_EQ(loads.batches_within[10], 98U) << "2^20 ns";
  EXPECT_EQ(loads.batches_within.back(), 101U);
  EXPECT_EQ(made.of_class(BatchClass::kStore).latency.batches, 0U);
}

TEST_F(StatisticsTest, KeepsAWorseHealthAndItsReasons) {
  note(Op::kSet, 0, 10);
  Report made;
  made.health = Health::kDown;
  made.reasons = {"the peer is gone"};
  statistics_.append_report(made);
  EXPECT_EQ(made.health, Health::kDown);
  EXPECT_EQ(made.reasons.size(), 2U);
}

}  // namespace
}  // namespace larder
