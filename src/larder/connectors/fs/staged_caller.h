#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "larder/base/aligned_buffer.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connectors/fs/file_store.h"

namespace larder::fs {

/// Calls into a file system that may hang, for one worker: each runs in a helper thread, on memory
/// of larder's own, and is waited for no longer than its deadline. Then the caller goes on; the
/// call, its memory and its thread are left to themselves until the file system answers.
///
/// Ownership: the helper and its memory; both go over to the helper when it is abandoned. Threads:
/// one, but stop(). Cost: one copy of every value, counted as staged; two thread switches.
class StagedCaller {
 public:
  /// `abandoned` counts the helpers that were left, over all callers of a lane; when there are
  /// `abandoned_max`, calls fail at once.
  StagedCaller(std::shared_ptr<FileStore> store,
               std::shared_ptr<std::atomic<std::uint32_t>> abandoned, std::uint32_t abandoned_max);
  ~StagedCaller();
  StagedCaller(const StagedCaller&) = delete;
  StagedCaller& operator=(const StagedCaller&) = delete;

  Status call(Op op, Item& item, const CallOptions& options);
  /// Ends a call that is waited for, and all later ones, as cancelled. Any thread.
  void stop() noexcept LARDER_EXCLUDES(mutex_);

 private:
  struct Helper;

  Status prepare(Op op, const Item& item, const CallOptions& options);
  Status start_helper();
  Status wait(const CallOptions& options);
  Status take_over(Op op, Item& item);
  void abandon() noexcept;

  const std::shared_ptr<FileStore> store_;
  const std::shared_ptr<std::atomic<std::uint32_t>> abandoned_;
  const std::uint32_t abandoned_max_;
  std::atomic<bool> is_stopping_ = false;
  Mutex mutex_;  ///< Of helper_, for stop(); the caller's thread alone changes it.
  std::shared_ptr<Helper> helper_;
  Thread thread_;
};

}  // namespace larder::fs
