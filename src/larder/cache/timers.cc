#include "larder/cache/timers.h"

namespace larder::cache {

void Timers::arm(Timer& timer, std::uint64_t at_ns) {
  if (timer.is_armed()) {
    if (timer.at_ns == at_ns) return;
    disarm(timer);
  }
  if (at_ns == kNever) return;
  timer.at_ns = at_ns;
  timer.order = ++order_;
  heap_.add(timer);
}

void Timers::disarm(Timer& timer) noexcept {
  if (!timer.is_armed()) return;
  heap_.remove(timer);
  timer.place = 0;
  timer.at_ns = kNever;
}

Timer* Timers::take_due(std::uint64_t now_ns) noexcept {
  if (next_ns() > now_ns || heap_.empty()) return nullptr;
  Timer& timer = heap_.first();
  disarm(timer);
  return &timer;
}

}  // namespace larder::cache
