#include "larder/connectors/log/machine/event_ring.h"

#include <algorithm>

namespace larder::log_store {
namespace {

/// Under one lock.
constexpr std::uint64_t kCopiedAtOnce = 64;

}  // namespace

void EventRing::note(EventPage::Kind kind, std::string_view key, std::uint64_t value_bytes) {
  if (!is_on()) return;
  const MutexLock lock{mutex_};
  EventPage::Event event{.kind = kind, .key = std::string{key}, .value_bytes = value_bytes};
  if (ring_.size() < events_max_) {
    ring_.push_back(std::move(event));
  } else {
    ring_[next_ % events_max_] = std::move(event);
  }
  ++next_;
}

EventPage EventRing::read(EventCursor from, std::size_t events_max) const {
  EventPage page;
  page.next = from;
  for (bool is_first = true;; is_first = false) {
    const MutexLock lock{mutex_};
    const std::uint64_t oldest = next_ - ring_.size();
    std::uint64_t position = std::min(page.next.position, next_);
    if (position < oldest) {
      if (!is_first) return page;  // The next call reports it.
      page.lost = oldest - position;
      position = oldest;
    }
    const std::uint64_t wanted = events_max - page.events.size();
    const std::uint64_t count = std::min({wanted, next_ - position, kCopiedAtOnce});
    for (const std::uint64_t end = position + count; position < end; ++position) {
      const EventPage::Event& event = ring_[position % events_max_];
      if (event.key.empty()) {
        ++page.lost;
      } else {
        page.events.push_back(event);
      }
    }
    page.next.position = position;
    if (count < kCopiedAtOnce) return page;
  }
}

}  // namespace larder::log_store
