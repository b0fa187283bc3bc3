#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/io/device.h"
#include "larder/io/posix_queue.h"
#include "larder/io/request_queue.h"

namespace larder::io {

/// Queue over threads that call preadv(), pwritev() and fdatasync(): for systems without io_uring
/// and for tools that cannot look into it. `threads` requests run at a time (`depth` at most), the
/// others wait in a list that runs through the requests themselves.
///
/// Threads: as TransferQueue says, and it does not mind a change of threads at any time. The
///   workers touch the two shared lists and the requests that they took, nothing else.
/// Cost: reap() one lock; a request two locks and a wake-up on the side of the workers.
class ThreadQueue final : public PosixQueue {
 public:
  static Result<std::unique_ptr<ThreadQueue>> create(const DeviceOptions& options,
                                                     const Alignment& alignment);
  ~ThreadQueue() override;
  ThreadQueue(const ThreadQueue&) = delete;
  ThreadQueue& operator=(const ThreadQueue&) = delete;

  void submit(Request& request) noexcept override LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Request*> done) noexcept override LARDER_EXCLUDES(mutex_);
  void wait(std::uint64_t until_ns) noexcept override LARDER_EXCLUDES(mutex_);
  void wake() noexcept override LARDER_EXCLUDES(mutex_);

 private:
  ThreadQueue(std::size_t files_max, const Alignment& alignment)
      : PosixQueue(files_max), alignment_(alignment) {}

  void work() noexcept LARDER_EXCLUDES(mutex_);
  void hand_over() noexcept LARDER_EXCLUDES(mutex_);

  const Alignment alignment_;

  RequestQueue submitted_;  // The driving thread's: not yet seen by the workers.

  Mutex mutex_;
  CondVar work_arrived_;
  CondVar something_ended_;
  RequestQueue queue_ LARDER_GUARDED_BY(mutex_);
  RequestQueue done_ LARDER_GUARDED_BY(mutex_);
  bool is_woken_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;

  std::vector<Thread> threads_;  // Last, because they use the members above.
};

}  // namespace larder::io
