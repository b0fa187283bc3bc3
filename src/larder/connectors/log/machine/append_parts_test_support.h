#pragma once

#include <memory>

#include "larder/connectors/log/machine/head.h"
#include "larder/connectors/log/machine/path_state_test_support.h"
#include "larder/connectors/log/machine/publisher.h"

namespace larder::log_store {

/// The steps after a write, for tests of the earlier ones: segment 0 is the head.
class AppendPartsTest : public PathStateTest, public FailedSyncSink {
 protected:
  void SetUp() override {
    PathStateTest::SetUp();
    errors_ = std::make_unique<WriteErrors>(*state_);
    in_flight_ = std::make_unique<TasksInFlight>(state_->guard);
    sealer_ = std::make_unique<SegmentSealer>(*state_, *errors_);
    commit_ = std::make_unique<GroupCommit>(*state_, *errors_, *in_flight_, *this);
    publisher_ = std::make_unique<Publisher>(*state_, *errors_, *in_flight_, *sealer_, *commit_);
    head_ = std::make_unique<Head>(state_->segments);
    tasks_ = std::make_unique<TestTasks>(*state_, sink_);
    make_free(0);
    state_->segments.begin_preparing(0, 7);
    state_->segments.note_ready(0);
    head_->begin(0);
  }
  void on_failed_sync(std::uint32_t /*segment*/) noexcept override {}

  /// A store with a place, as the appender starts it.
  StoreTask& placed(const std::string& key, std::uint64_t bytes, std::size_t misalignment = 0) {
    StoreTask& task = tasks_->store(key, bytes, misalignment);
    place(task);
    return task;
  }
  void place(StoreTask& task) {
    task.location = head_->allocate(record_bytes(task.value_bytes, kGrain), 1, task.key.size());
    note_placed(task);
  }
  void note_placed(StoreTask& task) {
    in_flight_->begin(task.fingerprint);
    if (!task.source) {
      state_->guard.note_store(task.fingerprint, state_->segments.place_of(task.location));
    }
  }
  bool points_to(const StoreTask& task) const {
    const auto entry = state_->index.find(task.fingerprint);
    return entry && entry->location == task.location;
  }

  RecordingSink sink_;
  std::unique_ptr<WriteErrors> errors_;
  std::unique_ptr<TasksInFlight> in_flight_;
  std::unique_ptr<SegmentSealer> sealer_;
  std::unique_ptr<GroupCommit> commit_;
  std::unique_ptr<Publisher> publisher_;
  std::unique_ptr<Head> head_;
  std::unique_ptr<TestTasks> tasks_;
};

}  // namespace larder::log_store
