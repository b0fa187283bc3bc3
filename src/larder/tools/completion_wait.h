#pragma once

#include <poll.h>

namespace larder::tools {

/// Waits until `fd` is readable, a signal arrives, or `timeout_ms` is over.
inline void wait_readable(int fd, int timeout_ms) noexcept {
  pollfd entry{fd, POLLIN, 0};
  ::poll(&entry, 1, timeout_ms);
}

}  // namespace larder::tools
