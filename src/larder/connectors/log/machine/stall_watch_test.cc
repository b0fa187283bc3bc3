#include "larder/connectors/log/machine/stall_watch.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class StallWatchTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    loads_ = std::make_unique<Loads>(*state_);
    appender_ = std::make_unique<Appender>(*state_);
    appender_->begin_generations(3);
    watch_ = std::make_unique<StallWatch>(*state_, *loads_, *appender_);
    tasks_ = std::make_unique<TestTasks>(*state_, sink_);
    const auto made = device_->open(kSuperblockFileName, io::OpenMode::kCreate);
    ASSERT_TRUE(made.has_value());
    file_ = *made;
    ASSERT_TRUE(device_->allocate(file_, kSuperblockFileBytes).has_value());
  }
  std::uint64_t stall_ns() const { return state_->options.stall_ns; }
  void pass(std::uint64_t ns) { clock_.advance_to_ns(clock_.now_ns() + ns); }
  /// A turn of the path, as far as the watch sees it.
  void turn() {
    state_->transfers.poll();
    watch_->turn(clock_.now_ns(), file_);
    watch_->note_next_turn(watch_->next_timer_ns());
  }
  /// Rounds of the appender, until the head is there.
  void make_head() {
    while (appender_->start_store(tasks_->store("first", 1)) != Admission::kStarted) run();
    appender_->turn();
    run();
  }
  void begin_write_that_stalls() {
    disk_.faults().stall = 1;
    ASSERT_EQ(appender_->start_store(tasks_->store("a", 100)), Admission::kStarted);
    appender_->turn();
    device_->wait(clock_.now_ns());
    disk_.faults().stall = 0;
  }

  RecordingSink sink_;
  io::FileId file_ = 0;
  std::unique_ptr<Loads> loads_;
  std::unique_ptr<Appender> appender_;
  std::unique_ptr<StallWatch> watch_;
  std::unique_ptr<TestTasks> tasks_;
};

TEST_F(StallWatchTest, NothingInFlightNeedsNoTimer) {
  turn();
  EXPECT_EQ(watch_->next_timer_ns(), kNever);
  EXPECT_TRUE(watch_->is_quiet());
}

TEST_F(StallWatchTest, ATransferWithoutAnAnswerTakesThePathDownUntilTheDiskIsBack) {
  make_head();
  begin_write_that_stalls();
  turn();
  EXPECT_EQ(watch_->next_timer_ns(), state_->transfers.oldest_submitted_ns() + stall_ns());
  pass(stall_ns() - 1);
  turn();
  EXPECT_FALSE(state_->health.is_down());
  pass(1);
  turn();
  EXPECT_TRUE(state_->health.is_down());
  EXPECT_EQ(state_->counters.stalls_total.value(), 1U);
  disk_.release_stalls();
  run();
  for (int probes = 0; state_->health.is_down(); ++probes) {
    ASSERT_LT(probes, 10);
    clock_.advance_to_ns(watch_->next_timer_ns());
    turn();
    run();
  }
  EXPECT_TRUE(watch_->is_quiet());
}

TEST_F(StallWatchTest, AfterItsOwnThreadDidNotRunEverythingGetsItsWholeTimeOnceMore) {
  make_head();
  begin_write_that_stalls();
  turn();
  pass(3 * stall_ns());
  turn();
  EXPECT_FALSE(state_->health.is_down());
  pass(stall_ns());
  turn();
  EXPECT_TRUE(state_->health.is_down());
  disk_.release_stalls();
  run();
}

TEST_F(StallWatchTest, WhatWaitsForTheDiskFailsWhileThePathIsDown) {
  make_head();
  sink_.stores.clear();
  while (state_->transfers.acquire() != nullptr) {
  }
  ASSERT_EQ(appender_->start_store(tasks_->store("waits", 100)), Admission::kStarted);
  appender_->turn();
  EXPECT_TRUE(appender_->has_waiting());
  state_->health.note_stall(clock_.now_ns(), stall_ns());
  turn();
  EXPECT_FALSE(appender_->has_waiting());
  ASSERT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(sink_.stores[0]->error.code(), ErrorCode::kUnavailable);
}

TEST_F(StallWatchTest, ASyncWithoutAnAnswerIsACondition) {
  make_head();
  StoreTask& task = tasks_->store("a", 100);
  task.wants_sync = true;
  ASSERT_EQ(appender_->start_store(task), Admission::kStarted);
  appender_->turn();
  run();
  disk_.faults().stall = 1;
  appender_->turn();
  device_->wait(clock_.now_ns());
  disk_.faults().stall = 0;
  turn();
  pass(stall_ns());
  turn();
  EXPECT_TRUE(has_condition("a sync has had no answer"));
  EXPECT_FALSE(state_->health.is_down());
  disk_.release_stalls();
  run();
  turn();
  EXPECT_FALSE(has_condition("a sync has had no answer"));
}

}  // namespace
}  // namespace larder::log_store
