#pragma once

#include <poll.h>

#include <cstdint>

namespace larder::tools {

/// How long a batch may take before its connector has to return it as failed: long enough for
/// everything that works, short enough to make a hang visible.
inline constexpr std::uint64_t kBatchPatienceNs = 120'000'000'000;

/// Waits until `fd` is readable, a signal arrives, or `timeout_ms` has passed.
inline void wait_readable(int fd, int timeout_ms) noexcept {
  pollfd entry{fd, POLLIN, 0};
  ::poll(&entry, 1, timeout_ms);
}

}  // namespace larder::tools
