// Tiers that are slow, never answer, fail, or are down and come back.
#include <gtest/gtest.h>

#include "larder/connectors/tiered/tiered_test_support.h"

namespace larder::tiered {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class TieredFaultsTest : public TieredFixture {
 protected:
  TieredOptions options{.l1_bytes = 8 * kMiB};
};

TEST_F(TieredFaultsTest, ATierThatNeverAnswersIsOverAtTheDeadline) {
  options.skip_l1 = true;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"});
  store(0, 4);
  const std::uint64_t began_ns = now_ns();

  const auto outcomes = load(0, 4, 1000, in_ms(50));

  EXPECT_LT(now_ns() - began_ns, 5'000'000'000U);
  for (const Outcome outcome : outcomes) EXPECT_EQ(outcome, Outcome::kFailed);
  EXPECT_EQ(hits(0, 4), 0U) << "a key whose load was late is a miss (C6)";
  EXPECT_EQ(connector->machine().stats().l2_batches, 0U);
}

TEST_F(TieredFaultsTest, ACancelledLoadComesBackFromATierThatNeverAnswers) {
  options.skip_l1 = true;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"});
  store(0, 1);
  Many many{Op::kGet};
  many.add(key_of(0), Bytes(1000));
  ASSERT_TRUE(connector->submit(many.prepare()));

  connector->cancel(many.batch);
  wait_for(many.batch);

  EXPECT_EQ(many.items[0].outcome, Outcome::kFailed);
  EXPECT_EQ(many.items[0].error.code(), ErrorCode::kCancelled);
}

TEST_F(TieredFaultsTest, StopEndsWhatATierNeverAnswers) {
  options.skip_l1 = true;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=1h"});
  Many load{Op::kGet};
  load.add("a", Bytes(10));
  Many stored{Op::kSet};
  stored.add("b", Bytes(10));
  Many waits{Op::kDelete};
  waits.add("b");
  for (Many* const many : {&load, &stored, &waits}) {
    ASSERT_TRUE(connector->submit(many->prepare()));
  }

  EXPECT_TRUE(connector->stop(in_ms(30'000)));

  for (Many* const many : {&load, &stored, &waits}) {
    Batch* done = nullptr;
    ASSERT_EQ(connector->reap({&done, 1}), 1U);
    EXPECT_NE(many, nullptr);
  }
  for (const Many* const many : {&load, &stored, &waits}) {
    EXPECT_EQ(many->items[0].error.code(), ErrorCode::kCancelled);
  }
}

TEST_F(TieredFaultsTest, AWaiterForAKeyIsOverAtItsDeadline) {
  options.skip_l1 = true;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=1h&pattern=set:*"});
  Many stored{Op::kSet};
  stored.add("key", Bytes(10));
  ASSERT_TRUE(connector->submit(stored.prepare()));
  Many removed{Op::kDelete};
  removed.add("key");
  removed.batch.deadline_ns = in_ms(30);

  run(removed);

  EXPECT_EQ(removed.items[0].error.code(), ErrorCode::kDeadlineExceeded);
  connector->cancel(stored.batch);
  wait_for(stored.batch);
}

TEST_F(TieredFaultsTest, WhatOneTierFailsTheNextOneHas) {
  options.skip_l1 = true;
  open(options, {"fault:?inner=memory:&error_rate=0.5&pattern=get:*&seed=7", "memory:"});
  store(0, 100);

  EXPECT_EQ(hits(0, 100), 100U);

  EXPECT_GT(counter("tier1_load_failures_total"), 20U);
  EXPECT_GT(counter("tier2_hits_total"), 20U);
}

TEST_F(TieredFaultsTest, WriteBackCatchesUpWhenTheTierIsBack) {
  options.write = Write::kBack;
  // The first batch stalls for a while and then fails as unavailable; the rest are taken.
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=20ms&pattern=set:1"});
  store(0, 40);
  EXPECT_EQ(hits(0, 40), 40U);
  EXPECT_GT(counter("values_unwritten"), 0U);

  wait_until_written();

  EXPECT_EQ(keys_in(0), 40U);
}

TEST_F(TieredFaultsTest, StopWaitsForATierThatComesBackInTime) {
  options.write = Write::kBack;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=20ms&pattern=set:1"});
  store(0, 10);

  EXPECT_TRUE(connector->stop(in_ms(30'000)));

  EXPECT_EQ(keys_in(0), 10U);
  EXPECT_EQ(counter("values_unwritten"), 0U);
}

TEST_F(TieredFaultsTest, L1DoesNotDropWhatADeadTierHasNotGot) {
  options.write = Write::kBack;
  options.l1_bytes = kMiB;
  options.drain_ns = 50'000'000;
  open(options, {"fault:?inner=memory:&stall_rate=1&stall=1h&pattern=set:*"});
  constexpr std::size_t kBytes = 32 << 10;
  store(0, 16, kBytes);
  Many more{Op::kSet};
  more.batch.deadline_ns = in_ms(200);
  for (std::uint64_t i = 100; i < 140; ++i) more.add(key_of(i), value_of(i, kBytes));

  run(more);

  // Some of the others had room, and the rest were refused; no completed store is lost.
  EXPECT_EQ(hits(0, 16, kBytes), 16U);
  std::size_t done = 0;
  for (std::size_t i = 0; i < more.items.size(); ++i) {
    if (more.items[i].outcome != Outcome::kDone) continue;
    ++done;
    EXPECT_EQ(hits(100 + i, 101 + i, kBytes), 1U);
  }
  EXPECT_GT(done, 0U);
  EXPECT_LT(done, more.items.size());
  EXPECT_TRUE(connector->stop(in_ms(30'000)));
  EXPECT_EQ(counter("values_unwritten"), 16 + done) << "report() tells what was not written";
}

TEST_F(TieredFaultsTest, RandomFaultsLeaveNothingPinned) {
  options.write = Write::kBack;
  options.l1_bytes = 2 * kMiB;
  open(options,
       {"fault:?inner=memory:&error_rate=0.2&delay_rate=0.3&delay=1ms&stall_rate=0.02&stall=5ms",
        "fault:?inner=memory:&error_rate=0.1&delay_rate=0.3&delay=2ms&seed=9"});
  Random random{11};
  std::deque<Many> batches;
  for (int round = 0; round < 300; ++round) {
    constexpr Op kOps[] = {Op::kSet, Op::kGet, Op::kGet, Op::kExists, Op::kDelete, Op::kTouch};
    Many& many = batches.emplace_back(kOps[random.below(6)]);
    many.batch.set_mode = random.one_in(3) ? SetMode::kReplace : SetMode::kIfAbsent;
    if (random.one_in(2)) many.batch.deadline_ns = now_ns() + random.below(8'000'000);
    for (std::uint64_t i = 0; i < 1 + random.below(8); ++i) {
      const std::uint64_t number = random.below(60);
      const bool is_set = many.batch.op == Op::kSet;
      many.add(key_of(number), is_set ? value_of(number, 20'000) : Bytes(20'000));
    }
    ASSERT_TRUE(connector->submit(many.prepare()));
    if (random.one_in(10)) connector->cancel(many.batch);
  }
  ASSERT_NO_FATAL_FAILURE(wait_for_batches(batches.size()));
  for (const Many& many : batches) {
    for (std::size_t i = 0; i < many.items.size(); ++i) {
      if (many.batch.op != Op::kGet || many.items[i].outcome != Outcome::kHit) continue;
      const std::string key{as_text(many.items[i].key)};
      EXPECT_EQ(many.value(i), value_of(std::stoull(key.substr(4)), 20'000));
    }
  }
  EXPECT_TRUE(connector->stop(in_ms(60'000)));
  const cache::EngineStats stats = connector->machine().stats();
  EXPECT_EQ(stats.l2_batches, 0U);
  EXPECT_EQ(stats.orphan_bytes + stats.loading_bytes + stats.writing_bytes, 0U);
}

}  // namespace
}  // namespace larder::tiered
