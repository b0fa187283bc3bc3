#include "larder/connector/completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

#include "larder/base/check.h"

namespace larder {
namespace {

int make_event_fd() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  return fd;
}

}  // namespace

CompletionQueue::CompletionQueue() : event_fd_(make_event_fd()) {}

CompletionQueue::~CompletionQueue() {
  ::close(event_fd_);
}

void CompletionQueue::push(Batch& batch) noexcept {
  const MutexLock lock{mutex_};
  batch.connector_next = nullptr;
  if (tail_ != nullptr) {
    tail_->connector_next = &batch;
  } else {
    head_ = &batch;
  }
  tail_ = &batch;
  if (signalled_) return;
  // The write never waits (EFD_NONBLOCK). It is under the lock so that whoever has reaped the last
  // batch may destroy the queue: a late write would go to a closed fd.
  const std::uint64_t one = 1;
  while (::write(event_fd_, &one, sizeof one) < 0) LARDER_CHECK(errno == EINTR);
  signalled_ = true;
}

std::size_t CompletionQueue::reap(std::span<Batch*> done) noexcept {
  const MutexLock lock{mutex_};
  std::size_t count = 0;
  while (count < done.size() && head_ != nullptr) {
    Batch* const batch = head_;
    head_ = batch->connector_next;
    batch->connector_next = nullptr;
    done[count++] = batch;
  }
  if (head_ == nullptr) {
    tail_ = nullptr;
    if (signalled_) {
      std::uint64_t drained = 0;
      // It never waits either, and after the unlock it could eat the signal of the next push().
      // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
      while (::read(event_fd_, &drained, sizeof drained) < 0 && errno == EINTR) {
      }
      signalled_ = false;
    }
  }
  return count;
}

bool CompletionQueue::empty() const {
  const MutexLock lock{mutex_};
  return head_ == nullptr;
}

}  // namespace larder
