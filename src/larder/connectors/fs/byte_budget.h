#pragma once

#include <cstdint>

#include "larder/base/mutex.h"

namespace larder::fs {

/// Bounds the bytes of loads that the kernel has at once, over all threads. A load larger than the
/// whole budget runs alone. Any thread; a short lock.
class ByteBudget {
 public:
  explicit ByteBudget(std::uint64_t bytes) : bytes_(bytes) {}

  bool try_take(std::uint64_t bytes) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    return try_take_locked(bytes);
  }
  /// Waits for other workers to return bytes: only a worker that holds none may call it.
  void take(std::uint64_t bytes) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    while (!try_take_locked(bytes)) returned_.wait(mutex_);
  }
  void give_back(std::uint64_t bytes) LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    taken_ -= bytes;
    returned_.notify_all();
  }
  std::uint64_t taken() const LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    return taken_;
  }

 private:
  bool try_take_locked(std::uint64_t bytes) LARDER_REQUIRES(mutex_) {
    if (taken_ != 0 && taken_ + bytes > bytes_) return false;
    taken_ += bytes;
    return true;
  }

  const std::uint64_t bytes_;
  mutable Mutex mutex_;
  CondVar returned_;
  std::uint64_t taken_ LARDER_GUARDED_BY(mutex_) = 0;
};

}  // namespace larder::fs
