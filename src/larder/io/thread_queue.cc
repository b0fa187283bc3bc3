#include "larder/io/thread_queue.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/io/transfer.h"

namespace larder::io {

namespace {

// Which of queue_words holds the descriptor, so that workers need not look into the file table.
constexpr std::size_t kDescriptor = 2;

}  // namespace

Result<std::unique_ptr<ThreadQueue>> ThreadQueue::create(const DeviceOptions& options,
                                                         const Alignment& alignment) {
  std::unique_ptr<ThreadQueue> queue{new ThreadQueue(options.files_max, alignment)};
  const std::uint32_t threads = std::min(options.threads, options.depth);
  for (std::uint32_t i = 0; i < threads; ++i) {
    LARDER_ASSIGN(Thread thread,
                  Thread::start("larder-io", [self = queue.get()] { self->work(); }));
    queue->threads_.push_back(std::move(thread));
  }
  return queue;
}

ThreadQueue::~ThreadQueue() {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
    queue_.clear();
  }
  work_arrived_.notify_all();
  threads_.clear();
}

void ThreadQueue::submit(Request& request) noexcept {
  note_submitted(request.file);
  request.queue_words[kDescriptor] = static_cast<std::uint64_t>(fd_of(request.file));
  if (begin_transfer(request) == TransferStep::kContinue) {
    submitted_.push(request);
    return;
  }
  const MutexLock lock{mutex_};
  done_.push(request);
}

void ThreadQueue::hand_over() noexcept {
  if (submitted_.empty()) return;
  std::size_t count = 0;
  {
    const MutexLock lock{mutex_};
    while (Request* const request = submitted_.pop()) {
      queue_.push(*request);
      ++count;
    }
  }
  if (count >= threads_.size()) {
    work_arrived_.notify_all();
  } else {
    for (; count > 0; --count) work_arrived_.notify_one();
  }
}

std::size_t ThreadQueue::reap(std::span<Request*> done) noexcept {
  hand_over();
  std::size_t count = 0;
  {
    const MutexLock lock{mutex_};
    while (count < done.size() && !done_.empty()) done[count++] = done_.pop();
  }
  note_returned(done.first(count));
  return count;
}

void ThreadQueue::wait(std::uint64_t until_ns) noexcept {
  hand_over();
  const MutexLock lock{mutex_};
  while (done_.empty() && !is_woken_) {
    if (RealClock::instance().now_ns() >= until_ns) break;
    RealClock::instance().wait_until(something_ended_, mutex_, until_ns);
  }
  is_woken_ = false;
}

void ThreadQueue::wake() noexcept {
  {
    const MutexLock lock{mutex_};
    is_woken_ = true;
  }
  something_ended_.notify_one();
}

void ThreadQueue::work() noexcept {
  for (;;) {
    Request* request = nullptr;
    {
      const MutexLock lock{mutex_};
      while (!is_stopping_ && queue_.empty()) work_arrived_.wait(mutex_);
      if (is_stopping_) return;
      request = queue_.pop();
    }
    run_transfer(*request, static_cast<int>(request->queue_words[kDescriptor]), alignment_);
    {
      const MutexLock lock{mutex_};
      done_.push(*request);
    }
    something_ended_.notify_one();
  }
}

}  // namespace larder::io
