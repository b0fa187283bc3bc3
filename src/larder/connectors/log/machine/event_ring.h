#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/report.h"

namespace larder::log_store {

/// The last stored and removed keys, for readers that mirror the store's content. Bounded: a reader
/// that is too slow learns how many it lost.
///
/// Threads: any. Cost: one short lock and a copy of the key per event; none when it is off. A
///   reader copies a few events at a time under the lock, so that stores do not wait for it.
class EventRing {
 public:
  explicit EventRing(std::uint32_t events_max) : events_max_(events_max) {}

  bool is_on() const noexcept { return events_max_ > 0; }
  void note(EventPage::Kind kind, std::string_view key, std::uint64_t value_bytes)
      LARDER_EXCLUDES(mutex_);
  /// An event of a key that is no longer known: readers count it as lost.
  void note_unknown() { note(EventPage::Kind::kRemoved, {}, 0); }
  /// At most `events_max`; fewer if the writer overtakes the reader meanwhile.
  EventPage read(EventCursor from, std::size_t events_max) const LARDER_EXCLUDES(mutex_);

 private:
  const std::uint32_t events_max_;
  mutable Mutex mutex_;
  std::vector<EventPage::Event> ring_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t next_ LARDER_GUARDED_BY(mutex_) = 0;  ///< Position of the next event.
};

}  // namespace larder::log_store
