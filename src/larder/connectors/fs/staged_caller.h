#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "larder/base/call_thread.h"
#include "larder/base/clock.h"
#include "larder/base/mutex.h"
#include "larder/connector/connector.h"
#include "larder/connector/worker_pool.h"
#include "larder/connectors/fs/change_gate.h"
#include "larder/connectors/fs/counters.h"
#include "larder/connectors/fs/hung_calls.h"
#include "larder/connectors/fs/value_io.h"

namespace larder::fs {

/// The functions that a StagedCaller calls: a FileStore's, which share it, or a test's script.
/// Helpers that were left behind may use all of it after the caller is destroyed.
struct StagedTarget {
  /// The operation itself, in a helper's thread. Must not throw.
  std::function<Status(Op, Item&, const CallOptions&, StagingBuffer&, ChangeGate&)> run;
  /// The file that a Set or a Delete of the key changes.
  std::function<std::string(std::span<const std::byte> key)> name_of;
  /// For tests: called in a helper's thread, each time before it looks for a task.
  std::function<void()> before_look = [] {};
  FsCounters* counters = nullptr;
  const Clock* clock = &RealClock::instance();
  std::uint64_t stall_ns = 0;
  std::size_t buffer_alignment = 4096;
  std::size_t hung_max = 1;  ///< No call begins while so many of the lane's hang.
};

/// Calls into a file system that may hang, for one worker: each runs in a CallThread, on memory
/// of larder's own, and is waited for no longer than its deadline. After that the caller continues,
/// and the call, its memory and its thread are abandoned until the file system answers.
///
/// What belongs to a call that was given up:
///   - It has not begun (the helper did not look yet): it is taken back, and nothing happened.
///   - It runs and changes nothing at this moment: its gate is closed, so it never changes
///   anything.
///   - It changes a file at this moment: that change may still come. Later changes of the file wait
///     for its end, bounded by their own deadlines, so it undoes no later change.
/// That holds within the process: a late change may replace or remove what other processes stored
/// in the meantime.
///
/// A result that is there is never late.
///
/// Ownership: the helper and the task's memory; a call that was given up keeps both. Threads: one,
/// except for stop(). Cost: one copy of every value, counted as staged; two thread switches.
class StagedCaller {
 public:
  StagedCaller(std::shared_ptr<const StagedTarget> target, std::shared_ptr<HungCalls> hung);
  ~StagedCaller();
  StagedCaller(const StagedCaller&) = delete;
  StagedCaller& operator=(const StagedCaller&) = delete;

  Status call(Op op, Item& item, const CallOptions& options);
  /// Begins no more calls, and waits for the present one no longer than `until_ns`: both end as
  /// cancelled. Any thread.
  void stop(std::uint64_t until_ns) noexcept LARDER_EXCLUDES(mutex_);

 private:
  struct Task;

  Status wait_for_turn(Op op, const Item& item, const CallOptions& options);
  Status start_helper();
  Status prepare(Op op, const Item& item, const CallOptions& options);
  void begin();
  Status wait(const CallOptions& options);
  Status give_up(const Error& error);
  Status take_over(Op op, Item& item);

  const std::shared_ptr<const StagedTarget> target_;
  const std::shared_ptr<HungCalls> hung_;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<std::uint64_t> stop_until_ns_ = kNever;
  std::shared_ptr<Task> task_;  ///< Has one exactly while there is a helper.
  Mutex mutex_;  ///< State of helper_, for stop(); only the caller's thread changes it.
  std::unique_ptr<CallThread> helper_;
};

}  // namespace larder::fs
