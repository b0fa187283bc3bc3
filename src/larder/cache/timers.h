#pragma once

#include <cstddef>
#include <cstdint>

#include "larder/base/clock.h"
#include "larder/base/indexed_heap.h"

namespace larder::cache {

/// Whose time has come.
enum class TimerKind : std::uint8_t {
  kSession = 0,
  kWrite,
  kOwner,
  kLookup,
  kWait,
  kTier,
  kStore,
  kPurge,
};

/// A member of the object that it belongs to, which does not move.
struct Timer {
  std::uint64_t at_ns = kNever;
  std::uint64_t order = 0;  ///< Of equal times the one that was armed first fires first.
  std::uint32_t place = 0;  ///< In the heap, from 1; 0: not armed.
  std::uint32_t id = 0;     ///< Of its object, for the part that owns it.
  TimerKind kind{};

  bool is_armed() const noexcept { return place != 0; }
};

/// The engine's one heap of times.
///
/// Threads: the engine's. Cost: O(log n) to arm, disarm and fire.
class Timers {
 public:
  /// Arms it, or moves it if it is armed. kNever disarms.
  void arm(Timer& timer, std::uint64_t at_ns);
  void disarm(Timer& timer) noexcept;
  /// Removes and returns the first that is due; null: none.
  Timer* take_due(std::uint64_t now_ns) noexcept;
  std::uint64_t next_ns() const noexcept { return heap_.empty() ? kNever : heap_.first().at_ns; }
  std::size_t size() const noexcept { return heap_.size(); }

 private:
  struct Order {
    static bool is_before(const Timer& a, const Timer& b) noexcept {
      return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.order < b.order;
    }
    static std::size_t place(const Timer& timer) noexcept { return timer.place - 1; }
    static void set_place(Timer& timer, std::size_t place) noexcept {
      timer.place = static_cast<std::uint32_t>(place + 1);
    }
  };

  IndexedHeap<Timer, Order> heap_;
  std::uint64_t order_ = 0;
};

}  // namespace larder::cache
