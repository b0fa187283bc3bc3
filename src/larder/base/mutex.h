#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "larder/base/thread_annotations.h"

namespace larder {

/// std::mutex with the annotations that clang's thread-safety analysis needs (libstdc++ has none).
/// The only mutex of the code base.
class LARDER_CAPABILITY("mutex") Mutex {
 public:
  void lock() LARDER_ACQUIRE() { mutex_.lock(); }
  void unlock() LARDER_RELEASE() { mutex_.unlock(); }
  /// True: it is locked now. Never waits.
  bool try_lock() LARDER_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

/// Holds a Mutex for a scope.
class LARDER_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) LARDER_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() LARDER_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// A condition variable for Mutex. Wake-ups may be spurious: wait in a loop over the condition.
class CondVar {
 public:
  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

  void wait(Mutex& mutex) LARDER_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock{mutex.mutex_, std::adopt_lock};
    condition_.wait(lock);
    lock.release();
  }

  /// False when `timeout_ns`, or a day, passed without a notification.
  bool wait_for(Mutex& mutex, std::uint64_t timeout_ns) LARDER_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock{mutex.mutex_, std::adopt_lock};
    const auto timeout = std::chrono::nanoseconds{
        static_cast<std::int64_t>(timeout_ns < kLongest ? timeout_ns : kLongest)};
    const auto status = condition_.wait_for(lock, timeout);
    lock.release();
    return status == std::cv_status::no_timeout;
  }

 private:
  // A day: steady_clock overflows when UINT64_MAX nanoseconds are added to it.
  static constexpr std::uint64_t kLongest = 86'400'000'000'000;

  std::condition_variable condition_;
};

}  // namespace larder
