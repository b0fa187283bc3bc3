#include "larder/connectors/log/machine/retentions.h"

#include <algorithm>

namespace larder::log_store {

bool Retentions::add(const Fingerprint& key, std::uint64_t value_bytes, std::uint64_t until_ns,
                     std::uint64_t now_ns) {
  const auto found = held_.find(key);
  if (found != held_.end()) {
    found->second.until_ns = std::max(found->second.until_ns, until_ns);
    return true;
  }
  const std::uint64_t bytes = std::max(value_bytes, kBytesMin);
  if (!has_room(bytes)) drop_expired(now_ns);
  if (!has_room(bytes)) return false;
  held_.emplace(key, Held{until_ns, bytes});
  bytes_ += bytes;
  return true;
}

bool Retentions::has(const Fingerprint& key, std::uint64_t now_ns) const noexcept {
  const auto found = held_.find(key);
  return found != held_.end() && now_ns < found->second.until_ns;
}

bool Retentions::end(const Fingerprint& key, std::uint64_t now_ns) noexcept {
  const auto found = held_.find(key);
  if (found == held_.end()) return false;
  const bool was_held = now_ns < found->second.until_ns;
  bytes_ -= found->second.bytes;
  held_.erase(found);
  return was_held;
}

void Retentions::drop_expired(std::uint64_t now_ns) noexcept {
  std::erase_if(held_, [&](const auto& entry) {
    if (now_ns < entry.second.until_ns) return false;
    bytes_ -= entry.second.bytes;
    return true;
  });
}

}  // namespace larder::log_store
