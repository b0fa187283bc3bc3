#include "larder/connectors/log/event_ring.h"

#include <algorithm>

namespace larder::log_store {

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
  const MutexLock lock{mutex_};
  EventPage page;
  const std::uint64_t oldest = next_ - ring_.size();
  std::uint64_t position = std::min(from.position, next_);
  if (position < oldest) {
    page.lost = oldest - position;
    position = oldest;
  }
  const std::uint64_t end = position + std::min<std::uint64_t>(events_max, next_ - position);
  for (; position < end; ++position) page.events.push_back(ring_[position % events_max_]);
  page.next.position = position;
  return page;
}

}  // namespace larder::log_store
