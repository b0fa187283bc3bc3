#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

#include "larder/base/mutex.h"

namespace larder {

/// No deadline: every time is before it.
inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

/// The source of time. State machines take one, so that a simulation can run them under virtual
/// time. Threads: any.
class Clock {
 public:
  Clock() = default;
  virtual ~Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  /// CLOCK_MONOTONIC, nanoseconds.
  virtual std::uint64_t now_ns() const noexcept = 0;
  /// Seconds since 1970 for information only: it may jump, and decides nothing.
  virtual std::uint64_t wall_seconds() const noexcept = 0;
  /// Waits until `changed` is notified or this clock shows `until_ns`. May return early: call it in
  /// a loop over the condition and the time.
  virtual void wait_until(CondVar& changed, Mutex& mutex, std::uint64_t until_ns) const
      LARDER_REQUIRES(mutex) = 0;
};

/// The machine's clocks. Stateless; one for the process.
class RealClock final : public Clock {
 public:
  static const RealClock& instance() noexcept;
  std::uint64_t now_ns() const noexcept override;
  std::uint64_t wall_seconds() const noexcept override;
  void wait_until(CondVar& changed, Mutex& mutex, std::uint64_t until_ns) const override
      LARDER_REQUIRES(mutex);
};

/// A clock that moves only when a test or a simulation sets it.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::uint64_t now_ns = 1'000'000'000) noexcept : now_ns_(now_ns) {}
  std::uint64_t now_ns() const noexcept override { return now_ns_.load(std::memory_order_acquire); }
  std::uint64_t wall_seconds() const noexcept override { return now_ns() / 1'000'000'000; }
  /// Returns every millisecond of real time, so that a waiter sees a change of the clock.
  void wait_until(CondVar& changed, Mutex& mutex, std::uint64_t until_ns) const override
      LARDER_REQUIRES(mutex);
  void advance_ns(std::uint64_t by_ns) noexcept {
    now_ns_.fetch_add(by_ns, std::memory_order_acq_rel);
  }
  /// Never moves backwards: an earlier time is ignored.
  void advance_to_ns(std::uint64_t time_ns) noexcept {
    std::uint64_t now = now_ns();
    while (now < time_ns && !now_ns_.compare_exchange_weak(now, time_ns)) {
    }
  }

 private:
  std::atomic<std::uint64_t> now_ns_;
};

}  // namespace larder
