#include "larder/connectors/log/machine/appender.h"

#include <cerrno>

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class AppenderTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    appender_ = std::make_unique<Appender>(*state_);
    appender_->begin_generations(3);
    tasks_ = std::make_unique<TestTasks>(*state_, sink_);
  }
  /// Rounds until nothing is in flight.
  void run_rounds() {
    do {
      appender_->turn();
      run();
    } while (!appender_->is_quiet() || appender_->in_flight() > 0);
  }
  Admission store(const std::string& key, std::uint64_t bytes) {
    return appender_->start_store(tasks_->store(key, bytes));
  }

  RecordingSink sink_;
  std::unique_ptr<Appender> appender_;
  std::unique_ptr<TestTasks> tasks_;
};

TEST_F(AppenderTest, TheFirstStoreWaitsForItsSegment) {
  EXPECT_EQ(store("a", 100), Admission::kWait);
  run();
  EXPECT_EQ(appender_->ready(), 0U);
  EXPECT_EQ(store("a", 100), Admission::kStarted);
  EXPECT_EQ(appender_->head(), 0U);
  run_rounds();
  EXPECT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(appender_->ready(), 1U);  // Ahead of need.
}

TEST_F(AppenderTest, AFullSegmentIsSealedAndTheNextOneTaken) {
  run_rounds();
  int stored = 0;
  while (appender_->head() != 1U) {
    ASSERT_LT(stored, 100);
    if (store("key" + std::to_string(stored), 6 * kGrain) == Admission::kStarted) ++stored;
    run_rounds();
  }
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_EQ(segment(0).table, nullptr);
  EXPECT_EQ(sink_.stores.size(), static_cast<std::size_t>(stored));
  EXPECT_EQ(state_->index.keys(), static_cast<std::uint64_t>(stored));
}

TEST_F(AppenderTest, TombstonesAreWrittenBeforeTheHeadLeavesTheirSegment) {
  run_rounds();
  ASSERT_EQ(store("a", 40 * kGrain), Admission::kStarted);
  DeleteTask& erase = tasks_->erase("b");
  ASSERT_EQ(appender_->start_delete(erase), Admission::kStarted);
  const std::uint32_t in_flight = state_->transfers.in_flight();
  ASSERT_EQ(store("c", 40 * kGrain), Admission::kWait);  // Does not fit, and none is ready yet.
  EXPECT_EQ(segment(0).state(), SegmentState::kSealing);
  EXPECT_GT(state_->transfers.in_flight(), in_flight);
  run_rounds();
  EXPECT_EQ(sink_.deletes.size(), 1U);
  EXPECT_EQ(segment(0).tombstones, 1U);
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
}

TEST_F(AppenderTest, WithoutAFreeSegmentStoresAreRefused) {
  open(1);
  appender_ = std::make_unique<Appender>(*state_);
  appender_->begin_generations(3);
  tasks_ = std::make_unique<TestTasks>(*state_, sink_);
  run_rounds();
  ASSERT_EQ(store("a", 40 * kGrain), Admission::kStarted);
  EXPECT_EQ(appender_->free_segments(), 0U);
  EXPECT_EQ(store("b", 40 * kGrain), Admission::kRefused);
  EXPECT_EQ(appender_->refusal().code(), ErrorCode::kResourceExhausted);
  run_rounds();
}

TEST_F(AppenderTest, WithoutSpaceToOverwriteStoresAreRefusedUntilThereMayBe) {
  run_rounds();
  state_->is_frozen = true;
  EXPECT_EQ(store("a", 100), Admission::kRefused);
  state_->is_frozen = false;
  EXPECT_EQ(store("a", 100), Admission::kStarted);
  run_rounds();
}

TEST_F(AppenderTest, AFailedGroupSyncClosesTheHead) {
  run_rounds();
  StoreTask& task = tasks_->store("a", 100);
  task.wants_sync = true;
  ASSERT_EQ(appender_->start_store(task), Admission::kStarted);
  disk_.faults().sync_error = 1;
  run_rounds();
  disk_.faults().sync_error = 0;
  EXPECT_EQ(task.error.code(), ErrorCode::kIo);
  EXPECT_FALSE(appender_->head().has_value());
  EXPECT_EQ(segment(0).state(), SegmentState::kSealed);
  EXPECT_NE(segment(0).table, nullptr);  // No table on the disk (L13).
}

TEST_F(AppenderTest, FreeSegmentsAreThoseThatAreThereAndThoseThatMayCome) {
  EXPECT_EQ(appender_->free_segments(), 6U);
  run_rounds();
  EXPECT_EQ(appender_->free_segments(), 6U);  // One is ready.
  appender_->set_growth(false);
  EXPECT_EQ(appender_->free_segments(), 1U);
  EXPECT_EQ(store("a", 100), Admission::kStarted);
  EXPECT_EQ(appender_->free_segments(), 0U);
  run_rounds();
}

}  // namespace
}  // namespace larder::log_store
