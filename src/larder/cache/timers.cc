#include "larder/cache/timers.h"

#include "larder/base/check.h"

namespace larder::cache {

void Timers::put(std::size_t index, Timer& timer) noexcept {
  heap_[index] = &timer;
  timer.place = static_cast<std::uint32_t>(index + 1);
}

void Timers::move_up(std::size_t index) noexcept {
  Timer& timer = *heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!is_before(timer, *heap_[parent])) break;
    put(index, *heap_[parent]);
    index = parent;
  }
  put(index, timer);
}

void Timers::move_down(std::size_t index) noexcept {
  Timer& timer = *heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && is_before(*heap_[child + 1], *heap_[child])) ++child;
    if (!is_before(*heap_[child], timer)) break;
    put(index, *heap_[child]);
    index = child;
  }
  put(index, timer);
}

void Timers::arm(Timer& timer, std::uint64_t at_ns) {
  if (timer.is_armed()) {
    if (timer.at_ns == at_ns) return;
    disarm(timer);
  }
  if (at_ns == kNever) return;
  timer.at_ns = at_ns;
  timer.order = ++order_;
  heap_.push_back(&timer);
  move_up(heap_.size() - 1);
}

void Timers::disarm(Timer& timer) noexcept {
  if (!timer.is_armed()) return;
  const std::size_t index = timer.place - 1;
  LARDER_CHECK(index < heap_.size() && heap_[index] == &timer);
  timer.place = 0;
  timer.at_ns = kNever;
  Timer& last = *heap_.back();
  heap_.pop_back();
  if (&last == &timer) return;
  put(index, last);
  move_up(index);
  move_down(last.place - 1);
}

Timer* Timers::take_due(std::uint64_t now_ns) noexcept {
  if (heap_.empty() || heap_.front()->at_ns > now_ns) return nullptr;
  Timer& timer = *heap_.front();
  disarm(timer);
  return &timer;
}

}  // namespace larder::cache
