#pragma once

#include <cstddef>
#include <span>

#include "larder/base/mutex.h"
#include "larder/connector/connector.h"

namespace larder {

/// Finished batches on their way back to the caller, with the event fd that says so (C1, C7).
///
/// Ownership: links batches through Batch::connector_next; owns the fd.
/// Threads: push() from any thread; reap() by one at a time.
/// Cost: one short lock per push; one write() to the fd per burst, not per batch.
class CompletionQueue {
 public:
  /// Throws std::system_error when the process has no file descriptors left; start-up only, and
  /// Registry::open() makes it an error.
  CompletionQueue();
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  /// The batch is the caller's again as soon as another thread reaps it: do not touch it after.
  void push(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Batch*> done) noexcept LARDER_EXCLUDES(mutex_);
  int event_fd() const noexcept { return event_fd_; }
  bool empty() const LARDER_EXCLUDES(mutex_);

 private:
  const int event_fd_;
  mutable Mutex mutex_;
  Batch* head_ LARDER_GUARDED_BY(mutex_) = nullptr;
  Batch* tail_ LARDER_GUARDED_BY(mutex_) = nullptr;
  bool signalled_ LARDER_GUARDED_BY(mutex_) = false;
};

}  // namespace larder
