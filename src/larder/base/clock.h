#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

namespace larder {

/// No deadline: every time is before it.
inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

/// Where time comes from. State machines take one, so that a simulation can run them under virtual
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
};

/// The machine's clocks. Stateless; one for the process.
class RealClock final : public Clock {
 public:
  static const RealClock& instance() noexcept;
  std::uint64_t now_ns() const noexcept override;
  std::uint64_t wall_seconds() const noexcept override;
};

/// A clock that moves only when it is told to. For tests and simulations.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::uint64_t now_ns = 1'000'000'000) noexcept : now_ns_(now_ns) {}
  std::uint64_t now_ns() const noexcept override { return now_ns_.load(std::memory_order_acquire); }
  std::uint64_t wall_seconds() const noexcept override { return now_ns() / 1'000'000'000; }
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
