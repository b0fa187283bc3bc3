// The judge of the crash tests finds what it is there to find.
#include "tests/crash/model.h"

#include <gtest/gtest.h>

namespace larder::crash {
namespace {

constexpr std::uint32_t kKey = 3;

class ModelTest : public ::testing::Test {
 protected:
  explicit ModelTest(bool leaves_early = false)
      : model_{{.value_bytes_max = 4096},
               {.segments = 64,
                .segment_bytes = 196'608,
                .record_bytes_max = 12'000,
                .leaves_early = leaves_early}} {
    model_.begin_life();
  }

  std::uint64_t invoke(Op op, std::uint64_t version = 0) {
    next_ += kOperationsPerBatch;
    EXPECT_EQ(model_.take({.kind = Kind::kInvoked,
                           .op = op,
                           .key = kKey,
                           .operation = next_,
                           .version = version}),
              "");
    return next_;
  }
  std::string end(std::uint64_t operation, Op op, Outcome outcome, std::uint64_t version = 0) {
    return model_.take({.kind = Kind::kEnded,
                        .op = op,
                        .outcome = outcome,
                        .key = kKey,
                        .operation = operation,
                        .version = version});
  }
  void set(std::uint64_t version) {
    EXPECT_EQ(end(invoke(Op::kSet, version), Op::kSet, Outcome::kDone, version), "");
  }
  void remove() { EXPECT_EQ(end(invoke(Op::kDelete), Op::kDelete, Outcome::kDone), ""); }
  void restart() {
    model_.end_life();
    model_.begin_life();
  }
  static Message found_message(Outcome outcome, std::uint64_t version) {
    return {
        .kind = Kind::kFound, .op = Op::kGet, .outcome = outcome, .key = kKey, .version = version};
  }
  std::string found(Outcome outcome, std::uint64_t version = 0) {
    return model_.take(found_message(outcome, version));
  }
  /// Whether that may be found now; it is not taken as seen.
  bool may_be(Outcome outcome, std::uint64_t version = 0) const {
    Model copy = model_;
    return copy.take(found_message(outcome, version)).empty();
  }

  Model model_;
  std::uint64_t next_ = 0;
};

class EarlyModelTest : public ModelTest {
 protected:
  EarlyModelTest() : ModelTest(true) {}
};

TEST_F(ModelTest, AnAcknowledgedSetMustBeThere) {
  set(1);
  restart();
  EXPECT_TRUE(may_be(Outcome::kHit, 1));
  EXPECT_FALSE(may_be(Outcome::kHit, 2));
  EXPECT_FALSE(may_be(Outcome::kMiss));
}

TEST_F(ModelTest, WhatWasReplacedOrDeletedMustNotComeBack) {
  set(1);
  set(2);
  restart();
  EXPECT_FALSE(may_be(Outcome::kHit, 1));
  remove();
  restart();
  EXPECT_TRUE(may_be(Outcome::kMiss));
  EXPECT_FALSE(may_be(Outcome::kHit, 1));
  EXPECT_FALSE(may_be(Outcome::kHit, 2));
}

TEST_F(ModelTest, WhatWasNotAcknowledgedHappenedOrNotAndStaysSo) {
  set(1);
  invoke(Op::kSet, 2);
  restart();
  EXPECT_TRUE(may_be(Outcome::kHit, 1));
  EXPECT_TRUE(may_be(Outcome::kHit, 2));
  EXPECT_FALSE(may_be(Outcome::kMiss));
  EXPECT_EQ(found(Outcome::kHit, 2), "");
  restart();
  EXPECT_FALSE(may_be(Outcome::kHit, 1));
  EXPECT_TRUE(may_be(Outcome::kHit, 2));
}

TEST_F(ModelTest, ADeleteThatWasNotAcknowledgedAndWasSeenStays) {
  set(1);
  invoke(Op::kDelete);
  restart();
  EXPECT_TRUE(may_be(Outcome::kHit, 1));
  EXPECT_EQ(found(Outcome::kMiss), "");
  restart();
  EXPECT_FALSE(may_be(Outcome::kHit, 1));
}

TEST_F(ModelTest, ARefusedSetMayHaveHappened) {
  set(1);
  EXPECT_EQ(end(invoke(Op::kSet, 2), Op::kSet, Outcome::kFailed, 2), "");
  restart();
  EXPECT_TRUE(may_be(Outcome::kHit, 1));
  EXPECT_TRUE(may_be(Outcome::kHit, 2));
  set(3);
  restart();
  EXPECT_FALSE(may_be(Outcome::kHit, 2));
}

TEST_F(ModelTest, OfTwoAtOnceEitherMayBeTheLast) {
  const std::uint64_t first = invoke(Op::kSet, 1);
  const std::uint64_t second = invoke(Op::kSet, 2);
  EXPECT_EQ(end(first, Op::kSet, Outcome::kDone, 1), "");
  EXPECT_EQ(end(second, Op::kSet, Outcome::kDone, 2), "");
  restart();
  EXPECT_TRUE(may_be(Outcome::kHit, 1));
  EXPECT_TRUE(may_be(Outcome::kHit, 2));
  EXPECT_FALSE(may_be(Outcome::kMiss));
}

TEST_F(ModelTest, AGetFindsWhatCouldBeThereWhileItRan) {
  set(1);
  set(2);
  const std::uint64_t get = invoke(Op::kGet);
  const std::uint64_t late = invoke(Op::kGet);
  set(3);
  EXPECT_NE(end(get, Op::kGet, Outcome::kHit, 1), "");
  EXPECT_EQ(end(late, Op::kGet, Outcome::kHit, 3), "");
  EXPECT_EQ(end(invoke(Op::kGet), Op::kGet, Outcome::kHit, 3), "");
  EXPECT_NE(end(invoke(Op::kGet), Op::kGet, Outcome::kHit, 2), "");
  EXPECT_NE(end(invoke(Op::kGet), Op::kGet, Outcome::kMiss), "");
}

TEST_F(ModelTest, OnlyWhatManySegmentsCameAfterMayBeEvicted) {
  set(1);
  const RingBound ring{.segments = 64, .segment_bytes = 196'608, .record_bytes_max = 12'000};
  EXPECT_FALSE(ring.may_evict(10 * 196'608, 0));
  EXPECT_TRUE(ring.may_evict(60 * 196'608, 0));
  EXPECT_FALSE(ring.may_evict(0, 10));
  EXPECT_TRUE(ring.may_evict(0, 60));
  for (int i = 0; i < 10; ++i) restart();
  EXPECT_FALSE(may_be(Outcome::kMiss));
  for (int i = 0; i < 50; ++i) restart();
  EXPECT_TRUE(may_be(Outcome::kMiss));
  EXPECT_TRUE(may_be(Outcome::kHit, 1));  // It may be back.
}

TEST_F(EarlyModelTest, OnceTheRingIsFullARecordMayLeaveEarly) {
  set(1);
  EXPECT_FALSE(may_be(Outcome::kMiss));
  for (int i = 0; i < 60; ++i) restart();
  set(2);
  EXPECT_TRUE(may_be(Outcome::kMiss));
  EXPECT_TRUE(may_be(Outcome::kHit, 2));
  EXPECT_FALSE(may_be(Outcome::kHit, 1));
}

TEST_F(ModelTest, BatchesWithWritesInFlightAreCounted) {
  EXPECT_EQ(model_.write_batches_in_flight(), 0U);
  invoke(Op::kGet);
  invoke(Op::kSet, 1);
  invoke(Op::kDelete);
  EXPECT_EQ(model_.write_batches_in_flight(), 2U);
  restart();
  EXPECT_EQ(model_.write_batches_in_flight(), 0U);
}

}  // namespace
}  // namespace larder::crash
