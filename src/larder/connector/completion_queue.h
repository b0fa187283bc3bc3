#pragma once

#include <cstddef>
#include <span>

#include "larder/base/mutex.h"
#include "larder/connector/connector.h"

namespace larder {

/// The event fd of a queue: readable while something is there. The queue's owner synchronises.
class CompletionSignal {
 public:
  /// Throws std::system_error when the process has no file descriptors left; start-up only, and
  /// Registry::open() makes it an error.
  CompletionSignal();
  ~CompletionSignal();
  CompletionSignal(const CompletionSignal&) = delete;
  CompletionSignal& operator=(const CompletionSignal&) = delete;

  void set() noexcept;
  void clear() noexcept;
  int fd() const noexcept { return fd_; }

 private:
  const int fd_;
  bool is_set_ = false;
};

/// Finished things on their way back to the caller, with the event fd that says so (C1, C7).
///
/// Ownership: links the things through their member `kNext`; owns the fd.
/// Threads: push() from any thread; reap() by one at a time.
/// Cost: one short lock per push; one write() to the fd per burst, not per thing.
template <class T, T* T::* kNext>
class Completions {
 public:
  /// Throws as CompletionSignal does.
  Completions() = default;
  ~Completions() = default;
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  /// The thing is the caller's again as soon as another thread reaps it: do not touch it after.
  void push(T& thing) noexcept LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    thing.*kNext = nullptr;
    if (tail_ != nullptr) {
      tail_->*kNext = &thing;
    } else {
      head_ = &thing;
    }
    tail_ = &thing;
    // Written under the lock, so that the thread that reaps the last entry may destroy the queue: a
    // later write would go to a closed fd.
    signal_.set();
  }

  std::size_t reap(std::span<T*> done) noexcept LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    std::size_t count = 0;
    while (count < done.size() && head_ != nullptr) {
      T* const thing = head_;
      head_ = thing->*kNext;
      thing->*kNext = nullptr;
      done[count++] = thing;
    }
    if (head_ == nullptr) {
      tail_ = nullptr;
      // After the unlock it could consume the signal of the next push().
      signal_.clear();
    }
    return count;
  }

  int event_fd() const noexcept { return signal_.fd(); }
  bool empty() const LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    return head_ == nullptr;
  }

 private:
  mutable Mutex mutex_;
  CompletionSignal signal_;  ///< Changed under mutex_.
  T* head_ LARDER_GUARDED_BY(mutex_) = nullptr;
  T* tail_ LARDER_GUARDED_BY(mutex_) = nullptr;
};

/// Batches of a connector.
using CompletionQueue = Completions<Batch, &Batch::connector_next>;

}  // namespace larder
