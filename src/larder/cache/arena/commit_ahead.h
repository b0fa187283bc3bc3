#pragma once

#include <cstdint>
#include <memory>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/thread.h"
#include "larder/cache/arena/arena_memory.h"

namespace larder::cache {

/// A thread that commits an arena's pages ahead of their use, one step of ArenaMemory at a time, so
/// that the engine's thread finds them committed.
///
/// It keeps `ahead_bytes` beyond the highest byte in use committed, and sleeps until half of that
/// lead is gone. If the system has no pages it sleeps until the next slot is taken beyond the
/// highest one. It only commits pages.
/// Threads: on_used() by the arena's. The lock is never held in a system call that allocates.
class CommitAhead {
 public:
  /// `memory` outlives it; of its bytes the first `capacity_bytes` will be committed.
  static Result<std::unique_ptr<CommitAhead>> start(ArenaMemory& memory,
                                                    std::uint64_t capacity_bytes,
                                                    std::uint64_t ahead_bytes);
  /// Waits for the current step.
  ~CommitAhead();
  CommitAhead(const CommitAhead&) = delete;
  CommitAhead& operator=(const CommitAhead&) = delete;

  /// Bytes below `end` are in use from now on; it never decreases.
  void on_used(std::uint64_t end) noexcept LARDER_EXCLUDES(mutex_);

 private:
  CommitAhead(ArenaMemory& memory, std::uint64_t capacity_bytes, std::uint64_t ahead_bytes) noexcept
      : memory_(memory), capacity_bytes_(capacity_bytes), ahead_bytes_(ahead_bytes) {}

  void run() noexcept LARDER_EXCLUDES(mutex_);
  std::uint64_t target() const noexcept LARDER_REQUIRES(mutex_);

  ArenaMemory& memory_;
  const std::uint64_t capacity_bytes_;
  const std::uint64_t ahead_bytes_;

  Mutex mutex_;
  CondVar wake_;
  std::uint64_t used_end_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_asleep_ LARDER_GUARDED_BY(mutex_) = false;  ///< Until on_used() or the end.
  Thread thread_;
};

}  // namespace larder::cache
