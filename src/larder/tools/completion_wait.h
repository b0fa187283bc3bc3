#pragma once

#include <poll.h>

#include <cstdint>

namespace larder::tools {

/// How long a batch may take before its connector has to give it back as failed: long enough for
/// anything that works, short enough that what is stuck becomes a failure somebody sees.
inline constexpr std::uint64_t kBatchPatienceNs = 120'000'000'000;

/// Waits until `fd` is readable, a signal arrives, or `timeout_ms` is over.
inline void wait_readable(int fd, int timeout_ms) noexcept {
  pollfd entry{fd, POLLIN, 0};
  ::poll(&entry, 1, timeout_ms);
}

}  // namespace larder::tools
