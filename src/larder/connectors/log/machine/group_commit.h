#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

class FailedSyncSink {
 public:
  virtual ~FailedSyncSink() = default;
  /// A sync of this segment has failed, so it is closed (L13): nothing more may be appended.
  virtual void on_failed_sync(std::uint32_t segment) noexcept = 0;
};

/// Syncs segments for stores and deletes that are acknowledged only then: one sync for all that
/// wait for the same segment, when a batch is complete, when many wait, or when nothing else is in
/// flight that could join.
///
/// Invariant: a task ends well only by a sync that began after its record was published, of a
///   segment of which no sync had failed before (L13). A segment is pinned while tasks wait for it.
/// Threads: the path's one. Cost: a search among the segments that are waited for, one or two.
class GroupCommit final : public TransferSink {
 public:
  GroupCommit(PathState& state, WriteErrors& errors, TasksInFlight& tasks, FailedSyncSink& sink)
      : state_(state), errors_(errors), tasks_(tasks), sink_(sink) {}

  /// The task's record is published in `segment`; it ends with the group's sync.
  void join(StoreTask& task, std::uint32_t segment) noexcept;
  void join(DeleteTask& task, std::uint32_t segment) noexcept;
  /// Called at the end of a round.
  void start_due() noexcept;
  bool is_quiet() const noexcept { return syncs_in_flight_ == 0; }

  void on_transfer(Transfer& transfer) noexcept override;

 private:
  /// For one segment.
  struct Group {
    std::uint32_t segment = 0;
    SegmentPin pin;
    bool in_flight = false;
    bool is_due = false;
    std::vector<StoreTask*> covered;  ///< By the sync in flight.
    std::vector<StoreTask*> waiting;
    std::vector<DeleteTask*> covered_deletes;
    std::vector<DeleteTask*> waiting_deletes;
  };

  Group& group_of(std::uint32_t segment);
  void start(Group& group) noexcept;
  Error fail(Group& group, int sys_errno) noexcept;

  PathState& state_;
  WriteErrors& errors_;
  TasksInFlight& tasks_;
  FailedSyncSink& sink_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::uint32_t tasks_waiting_ = 0;  ///< In all groups.
  std::uint32_t syncs_in_flight_ = 0;
};

}  // namespace larder::log_store
