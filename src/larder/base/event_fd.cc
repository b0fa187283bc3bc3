#include "larder/base/event_fd.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>

namespace larder {

Result<EventFd> EventFd::create() noexcept {
  UniqueFd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!fd) return Error::from_errno(errno, "event_fd", "creating an eventfd");
  return EventFd{std::move(fd)};
}

void EventFd::signal() noexcept {
  const std::uint64_t one = 1;
  // EAGAIN means that the counter is full and so the descriptor readable, which is all we want.
  while (::write(fd_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

bool EventFd::drain() noexcept {
  std::uint64_t count = 0;
  ssize_t got = 0;
  do {
    got = ::read(fd_.get(), &count, sizeof(count));
  } while (got < 0 && errno == EINTR);
  return got == static_cast<ssize_t>(sizeof(count));
}

}  // namespace larder
