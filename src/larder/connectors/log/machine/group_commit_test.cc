#include "larder/connectors/log/machine/group_commit.h"

#include "larder/connectors/log/machine/path_state_test_support.h"

namespace larder::log_store {
namespace {

class FailedSyncs final : public FailedSyncSink {
 public:
  void on_failed_sync(std::uint32_t segment) noexcept override { segments.push_back(segment); }
  std::vector<std::uint32_t> segments;
};

class GroupCommitTest : public PathStateTest {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    errors_ = std::make_unique<WriteErrors>(*state_);
    in_flight_ = std::make_unique<TasksInFlight>(state_->guard);
    commit_ = std::make_unique<GroupCommit>(*state_, *errors_, *in_flight_, failed_);
    tasks_ = std::make_unique<TestTasks>(*state_, sink_);
    make_open(0, 7);
  }
  StoreTask& written(const std::string& key, std::uint32_t segment) {
    StoreTask& task = tasks_->store(key, 100);
    in_flight_->begin(task.fingerprint);
    commit_->join(task, segment);
    return task;
  }
  DeleteTask& deleted(const std::string& key, std::uint32_t segment) {
    DeleteTask& task = tasks_->erase(key);
    in_flight_->begin(task.fingerprint);
    commit_->join(task, segment);
    return task;
  }
  /// A store that is still being written, and may join later.
  void begin_another() { in_flight_->begin(tasks_->store("another", 1).fingerprint); }

  RecordingSink sink_;
  FailedSyncs failed_;
  std::unique_ptr<WriteErrors> errors_;
  std::unique_ptr<TasksInFlight> in_flight_;
  std::unique_ptr<GroupCommit> commit_;
  std::unique_ptr<TestTasks> tasks_;
};

TEST_F(GroupCommitTest, OneSyncIsForAllThatWait) {
  written("a", 0);
  written("b", 0);
  EXPECT_EQ(segment(0).pins(), 1U);
  commit_->start_due();
  EXPECT_FALSE(commit_->is_quiet());
  EXPECT_TRUE(sink_.stores.empty());
  run();
  EXPECT_EQ(sink_.stores.size(), 2U);
  EXPECT_EQ(disk_.counts().syncs, 1U);
  EXPECT_EQ(segment(0).pins(), 0U);
  EXPECT_EQ(in_flight_->count(), 0U);
  EXPECT_FALSE(state_->guard.busy(sink_.stores[0]->fingerprint));
  EXPECT_TRUE(commit_->is_quiet());
}

TEST_F(GroupCommitTest, ItWaitsForTheRestOfTheBatch) {
  begin_another();
  written("a", 0);
  commit_->start_due();
  EXPECT_TRUE(commit_->is_quiet());
  sink_.is_batch_complete = true;
  written("b", 0);
  commit_->start_due();
  EXPECT_FALSE(commit_->is_quiet());
  run();
  EXPECT_EQ(sink_.stores.size(), 2U);
}

TEST_F(GroupCommitTest, ManyDoNotWaitForTheRest) {
  begin_another();
  for (int i = 0; i < 63; ++i) written("key" + std::to_string(i), 0);
  commit_->start_due();
  EXPECT_TRUE(commit_->is_quiet());
  written("the 64th", 0);
  commit_->start_due();
  EXPECT_FALSE(commit_->is_quiet());
  run();
}

TEST_F(GroupCommitTest, ADeleteIsDueAtOnce) {
  begin_another();
  deleted("a", 0);
  commit_->start_due();
  run();
  EXPECT_EQ(sink_.deletes.size(), 1U);
}

TEST_F(GroupCommitTest, WhatComesDuringASyncWaitsForTheNextOne) {
  written("a", 0);
  commit_->start_due();
  written("b", 0);
  commit_->start_due();
  run();
  ASSERT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(segment(0).pins(), 1U);
  commit_->start_due();
  run();
  EXPECT_EQ(sink_.stores.size(), 2U);
  EXPECT_EQ(segment(0).pins(), 0U);
}

TEST_F(GroupCommitTest, SegmentsAreSyncedApart) {
  make_open(1, 8);
  written("a", 0);
  written("b", 1);
  commit_->start_due();
  run();
  EXPECT_EQ(disk_.counts().syncs, 2U);
  EXPECT_EQ(sink_.stores.size(), 2U);
}

TEST_F(GroupCommitTest, AFailedSyncFailsAllThatWaitAndClosesTheSegment) {
  disk_.faults().sync_error = 1;
  written("a", 0);
  commit_->start_due();
  written("b", 0);
  deleted("c", 0);
  run();
  ASSERT_EQ(sink_.stores.size(), 2U);
  ASSERT_EQ(sink_.deletes.size(), 1U);
  for (const StoreTask* const task : sink_.stores) EXPECT_EQ(task->error.code(), ErrorCode::kIo);
  EXPECT_EQ(sink_.deletes[0]->error.code(), ErrorCode::kIo);
  EXPECT_TRUE(segment(0).sync_failed);
  EXPECT_EQ(failed_.segments, std::vector<std::uint32_t>{0});
  EXPECT_EQ(segment(0).pins(), 0U);
  EXPECT_NE(state_->health.health(), Health::kHealthy);
}

TEST_F(GroupCommitTest, ASyncThatSucceedsAfterAFailedOneProvesNothing) {
  written("a", 0);
  commit_->start_due();
  segment(0).sync_failed = true;  // As after the sealer's.
  run();
  ASSERT_EQ(sink_.stores.size(), 1U);
  EXPECT_EQ(sink_.stores[0]->error.code(), ErrorCode::kIo);
}

}  // namespace
}  // namespace larder::log_store
