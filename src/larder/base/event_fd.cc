#include "larder/base/event_fd.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include "larder/base/clock.h"

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

void wait_readable(int first, int second, std::uint64_t until_ns) noexcept {
  std::array<pollfd, 2> fds{{{first, POLLIN, 0}, {second, POLLIN, 0}}};
  timespec timeout{};
  if (until_ns != kNever) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    const std::uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    timeout.tv_sec = static_cast<time_t>(left_ns / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(left_ns % 1'000'000'000);
  }
  ::ppoll(fds.data(), fds.size(), until_ns == kNever ? nullptr : &timeout, nullptr);
}

}  // namespace larder
