#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/group_commit.h"
#include "larder/connectors/log/machine/path_state.h"
#include "larder/connectors/log/machine/segment_sealer.h"
#include "larder/connectors/log/machine/write_errors.h"

namespace larder::log_store {

/// Completes the writes of a place: adds its records (L4, L8) or tombstones (L9) to the index and
/// the segment's table, settles the place, and ends the tasks, now or with a sync of the segment.
///
/// Invariant: a record or a tombstone is published if and only if it was transferred completely and
///   without an error, and only over earlier ones in the log.
/// Threads: the path's one. Cost: two or three probes of the index; no allocation in steady state.
class Publisher {
 public:
  Publisher(PathState& state, WriteErrors& errors, TasksInFlight& tasks, SegmentSealer& sealer,
            GroupCommit& commit)
      : state_(state), errors_(errors), tasks_(tasks), sealer_(sealer), commit_(commit) {}

  /// All writes of the record have ended, successfully or with `task.error`, or it failed without
  /// any.
  void settle(StoreTask& task) noexcept;
  /// The same for the tombstones at one place.
  void settle(std::span<DeleteTask* const> tasks, Location location, const Error& error) noexcept;

 private:
  void publish(StoreTask& task) noexcept;
  void publish(StoreTask& task, IndexEntry& entry, std::string_view key) noexcept;
  void publish(DeleteTask& task, Location location) noexcept;
  void reuse_range(const StoreTask& task) noexcept;

  PathState& state_;
  WriteErrors& errors_;
  TasksInFlight& tasks_;
  SegmentSealer& sealer_;
  GroupCommit& commit_;
};

}  // namespace larder::log_store
