#include "larder/server/kv_event_log.h"

#include <algorithm>
#include <utility>

namespace larder::server {

wire::KvEvent KvEventLog::Event::view() const noexcept {
  return {.sequence = sequence,
          .is_stored = is_stored,
          .model = model,
          .hashes = hashes,
          .parent = before ? &*before : nullptr,
          .token_ids = token_ids};
}

/// Approximate size, here and in a reply.
std::size_t KvEventLog::Event::bytes() const noexcept {
  return sizeof(Event) + model.size() + hashes.size() * sizeof(wire::ChunkHash) +
         token_ids.size() * sizeof(std::uint32_t);
}

void KvEventLog::add(Event event) {
  event.sequence = next_++;
  bytes_ += event.bytes();
  events_.push_back(std::move(event));
  while (events_.size() > events_max_ || (bytes_ > kBytesMax && events_.size() > 1)) {
    bytes_ -= events_.front().bytes();
    events_.pop_front();
  }
}

void KvEventLog::add_stored(std::string_view model, const wire::ChunkHash& hash,
                            const wire::ChunkHash* before, std::vector<std::uint32_t> token_ids) {
  Event event{.is_stored = true, .model = std::string{model}, .hashes = {hash}};
  if (before != nullptr) event.before = *before;
  event.token_ids = std::move(token_ids);
  add(std::move(event));
}

void KvEventLog::add_removed(std::string_view model, const wire::ChunkHash& hash) {
  const bool goes_on = !events_.empty() && !events_.back().is_stored &&
                       events_.back().sequence > read_ && events_.back().model == model &&
                       events_.back().hashes.size() < kHashesMax;
  if (goes_on) {
    events_.back().hashes.push_back(hash);
    bytes_ += sizeof hash;
  } else {
    add({.is_stored = false, .model = std::string{model}, .hashes = {hash}});
  }
}

KvEventLog::Reading KvEventLog::read(std::string_view model, std::uint64_t cursor,
                                     std::size_t events_max) {
  const std::uint64_t first = events_.empty() ? next_ : events_.front().sequence;
  Reading reading{.next_cursor = std::min(cursor, last()),
                  .is_lost = cursor + 1 < first || cursor > last()};
  const std::uint64_t from = cursor < first ? 0 : cursor + 1 - first;
  std::size_t bytes = 0;
  for (std::uint64_t at = from; at < events_.size() && reading.events.size() < events_max; ++at) {
    const Event& event = events_[at];
    if (event.model == model && (bytes += event.bytes()) > kReadingBytesMax &&
        !reading.events.empty()) {
      break;
    }
    reading.next_cursor = event.sequence;
    if (event.model == model) reading.events.push_back(event.view());
  }
  read_ = std::max(read_, reading.next_cursor);
  return reading;
}

}  // namespace larder::server
