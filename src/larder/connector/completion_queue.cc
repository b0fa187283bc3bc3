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

CompletionSignal::CompletionSignal() : fd_(make_event_fd()) {}

CompletionSignal::~CompletionSignal() {
  ::close(fd_);
}

void CompletionSignal::set() noexcept {
  if (is_set_) return;
  const std::uint64_t one = 1;
  // The write never waits (EFD_NONBLOCK).
  while (::write(fd_, &one, sizeof one) < 0) LARDER_CHECK(errno == EINTR);
  is_set_ = true;
}

void CompletionSignal::clear() noexcept {
  if (!is_set_) return;
  std::uint64_t drained = 0;
  // It never waits either.
  // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
  while (::read(fd_, &drained, sizeof drained) < 0 && errno == EINTR) {
  }
  is_set_ = false;
}

}  // namespace larder
