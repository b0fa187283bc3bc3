#pragma once

#include <cstdint>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder {

/// An eventfd: readable from signal() until drain(). Non-blocking, closed on exec. signal() and
/// drain() from any thread, each one system call.
class EventFd {
 public:
  static Result<EventFd> create() noexcept;

  void signal() noexcept;
  /// Makes it unreadable; false when it was. Drain first, then look for work, or a signal gets
  /// lost.
  bool drain() noexcept;
  int get() const noexcept { return fd_.get(); }

 private:
  explicit EventFd(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

/// Returns when one of the two is readable, at `until_ns` (monotonic; kNever waits without limit),
/// or earlier. One system call.
void wait_readable(int first, int second, std::uint64_t until_ns) noexcept;

}  // namespace larder
