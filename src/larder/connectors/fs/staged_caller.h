#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "larder/base/aligned_buffer.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connectors/fs/file_store.h"

namespace larder::fs {

/// The helpers of a lane that were left with a call that has not ended. Any thread.
class Abandoned {
 public:
  void add(std::uint64_t since_ns) LARDER_EXCLUDES(mutex_);
  void remove(std::uint64_t since_ns) LARDER_EXCLUDES(mutex_);
  /// Ends a wait_below(), as a stop of its caller does.
  void wake() LARDER_EXCLUDES(mutex_);
  std::size_t count() const LARDER_EXCLUDES(mutex_);
  /// Waits until there are none, but not beyond `until_ns`.
  void wait_empty(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);
  /// Waits until there are fewer than `max`. kUnavailable when the oldest has not ended for
  /// `stall_ns`: the file system does not answer.
  Status wait_below(std::size_t max, std::uint64_t stall_ns, std::uint64_t deadline_ns,
                    const std::atomic<bool>& is_stopping) LARDER_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::multiset<std::uint64_t> since_ns_ LARDER_GUARDED_BY(mutex_);
};

/// Calls into a file system that may hang, for one worker: each runs in a helper thread, on memory
/// of larder's own, and is waited for no longer than its deadline. Then the caller goes on; the
/// call, its memory and its thread are left to themselves until the file system answers.
///
/// Ownership: the helper and its memory; both go over to the helper when it is abandoned. Threads:
/// one, but stop(). Cost: one copy of every value, counted as staged; two thread switches.
class StagedCaller {
 public:
  /// No call begins while `abandoned_max` of the lane's have been left and have not ended.
  StagedCaller(std::shared_ptr<FileStore> store, std::shared_ptr<Abandoned> abandoned,
               std::size_t abandoned_max);
  ~StagedCaller();
  StagedCaller(const StagedCaller&) = delete;
  StagedCaller& operator=(const StagedCaller&) = delete;

  Status call(Op op, Item& item, const CallOptions& options);
  /// Begins no more calls, and waits for the present one no longer than `until_ns`: both end as
  /// cancelled. Any thread.
  void stop(std::uint64_t until_ns) noexcept LARDER_EXCLUDES(mutex_);

 private:
  struct Helper;

  Status prepare(Op op, const Item& item, const CallOptions& options);
  Status start_helper();
  Status wait(const CallOptions& options);
  Status take_over(Op op, Item& item);
  void abandon() noexcept;

  const std::shared_ptr<FileStore> store_;
  const std::shared_ptr<Abandoned> abandoned_;
  const std::size_t abandoned_max_;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<std::uint64_t> stop_until_ns_ = kNever;
  Mutex mutex_;  ///< Of helper_, for stop(); the caller's thread alone changes it.
  std::shared_ptr<Helper> helper_;
  Thread thread_;
};

}  // namespace larder::fs
