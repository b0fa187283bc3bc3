#include "larder/base/clock.h"

#include <ctime>

namespace larder {

const RealClock& RealClock::instance() noexcept {
  static const RealClock clock;
  return clock;
}

std::uint64_t RealClock::now_ns() const noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t RealClock::wall_seconds() const noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<std::uint64_t>(time.tv_sec);
}

void RealClock::wait_until(CondVar& changed, Mutex& mutex, std::uint64_t until_ns) const {
  if (until_ns == kNever) return changed.wait(mutex);
  const std::uint64_t time_ns = now_ns();
  if (time_ns < until_ns) changed.wait_for(mutex, until_ns - time_ns);
}

void ManualClock::wait_until(CondVar& changed, Mutex& mutex, std::uint64_t until_ns) const {
  if (now_ns() < until_ns) changed.wait_for(mutex, 1'000'000);
}

}  // namespace larder
