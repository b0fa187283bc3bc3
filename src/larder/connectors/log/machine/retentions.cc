#include "larder/connectors/log/machine/retentions.h"

#include <algorithm>

namespace larder::log_store {

bool Retentions::add(const Fingerprint& key, std::uint32_t segment, std::uint64_t value_bytes,
                     std::uint64_t until_ns, std::uint64_t now_ns) {
  const auto found = held_.find(key.low);
  if (found != held_.end()) {
    found->second.until_ns = std::max(found->second.until_ns, until_ns);
    return true;
  }
  const std::uint64_t bytes = std::max(value_bytes, kBytesMin);
  if (!has_room(bytes)) drop_expired(now_ns);
  if (!has_room(bytes)) return false;
  held_.emplace(key.low, Held{until_ns, bytes, segment});
  ++by_segment_[segment];
  bytes_ += bytes;
  first_end_ns_ = std::min(first_end_ns_, until_ns);
  return true;
}

void Retentions::note_moved(const Fingerprint& key, std::uint32_t segment) {
  const auto found = held_.find(key.low);
  if (found == held_.end()) return;
  ++by_segment_[segment];
  leave_segment(found->second.segment);
  found->second.segment = segment;
}

bool Retentions::has(const Fingerprint& key, std::uint64_t now_ns) const noexcept {
  const auto found = held_.find(key.low);
  return found != held_.end() && now_ns < found->second.until_ns;
}

bool Retentions::end(const Fingerprint& key, std::uint64_t now_ns) noexcept {
  const auto found = held_.find(key.low);
  if (found == held_.end()) return false;
  const bool was_held = now_ns < found->second.until_ns;
  let_go(found->second);
  held_.erase(found);
  return was_held;
}

void Retentions::drop_expired(std::uint64_t now_ns) noexcept {
  if (now_ns < first_end_ns_) return;
  first_end_ns_ = std::numeric_limits<std::uint64_t>::max();
  std::erase_if(held_, [&](const auto& entry) {
    if (now_ns < entry.second.until_ns) {
      first_end_ns_ = std::min(first_end_ns_, entry.second.until_ns);
      return false;
    }
    let_go(entry.second);
    return true;
  });
}

void Retentions::let_go(const Held& held) noexcept {
  bytes_ -= held.bytes;
  leave_segment(held.segment);
}

void Retentions::leave_segment(std::uint32_t segment) noexcept {
  const auto found = by_segment_.find(segment);
  if (--found->second == 0) by_segment_.erase(found);
}

}  // namespace larder::log_store
