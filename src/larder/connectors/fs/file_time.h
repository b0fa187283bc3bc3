#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <limits>

namespace larder::fs {

// A file's modification time as the time of its last use. Pure; any thread.

/// How exact it is: a use sets the time of a file only when it is further off than this. Clocks of
/// clients and servers may differ by as much.
inline constexpr std::int64_t kFileTimeGrainSeconds = 3600;

/// Whether the time cannot be a time of use: a clock was wrong, or the time was set by hand.
inline bool is_in_future(std::int64_t modified_seconds, std::int64_t now_seconds) noexcept {
  return modified_seconds > now_seconds && modified_seconds - now_seconds > kFileTimeGrainSeconds;
}

/// The key for the order of eviction, in nanoseconds. Files with times in the future come before
/// all others (in their own order): as the newest ones they would stay for ever without being used,
/// and their real time of use is not known.
inline std::int64_t last_use_ns(const timespec& modified, std::int64_t now_seconds) noexcept {
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  constexpr std::int64_t kSecondsMax = 9'000'000'000;  // The largest value of 64 bits.
  const std::int64_t seconds = std::clamp<std::int64_t>(modified.tv_sec, -kSecondsMax, kSecondsMax);
  const std::int64_t ns = seconds * kNsPerSecond + modified.tv_nsec;
  return is_in_future(modified.tv_sec, now_seconds) ? ns + std::numeric_limits<std::int64_t>::min()
                                                    : ns;
}

}  // namespace larder::fs
