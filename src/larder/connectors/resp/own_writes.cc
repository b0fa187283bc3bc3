#include "larder/connectors/resp/own_writes.h"

#include "larder/base/hash.h"

namespace larder::resp {

bool OwnWrites::reserve(std::span<const std::byte> key, std::uint64_t value_bytes) noexcept {
  if (capacity_bytes_ > 0) {
    std::uint64_t others = bytes() + reserved_bytes_;
    const auto known = entries_.find(hash64(key));
    if (known != entries_.end()) others -= known->second.bytes;
    if (known == entries_.end() && entries_.size() >= keys_max_) return false;
    if (others > capacity_bytes_ || value_bytes > capacity_bytes_ - others) return false;
  }
  reserved_bytes_ += value_bytes;
  return true;
}

void OwnWrites::note_stored(std::span<const std::byte> key, std::uint64_t value_bytes) {
  ++stored_total_;
  const std::uint64_t hash = hash64(key);
  if (entries_.size() >= keys_max_ && !entries_.contains(hash)) {
    uncounted_total_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const auto [place, is_new] = entries_.try_emplace(hash);
  Entry& entry = place->second;
  // The sum first, so that no reader sees more keys than there are.
  bytes_.fetch_add(value_bytes - entry.bytes, std::memory_order_relaxed);
  entry.bytes = value_bytes;
  entry.version = stored_total_;
  if (!is_new) return;
  if (keeps_keys()) entry.key.assign(reinterpret_cast<const char*>(key.data()), key.size());
  keys_.fetch_add(1, std::memory_order_relaxed);
}

void OwnWrites::note_gone(std::span<const std::byte> key) noexcept {
  if (entries_.empty()) return;
  const auto known = entries_.find(hash64(key));
  if (known != entries_.end()) forget(known);
}

bool OwnWrites::note_size(const Sighting& sighting, std::uint64_t value_bytes) noexcept {
  const auto known = entries_.find(sighting.hash);
  if (known == entries_.end() || known->second.version != sighting.version) return false;
  if (value_bytes == known->second.bytes) return false;
  if (value_bytes == 0) {
    forget(known);
    return true;
  }
  bytes_.fetch_add(value_bytes - known->second.bytes, std::memory_order_relaxed);
  known->second.bytes = value_bytes;
  return true;
}

void OwnWrites::keep_at_most(std::uint64_t keys) noexcept {
  for (std::size_t i = 0; i < kForgottenMax && entries_.size() > keys; ++i) {
    forget(entries_.begin());
  }
}

void OwnWrites::forget(Entries::iterator entry) noexcept {
  bytes_.fetch_sub(entry->second.bytes, std::memory_order_relaxed);
  keys_.fetch_sub(1, std::memory_order_relaxed);
  entries_.erase(entry);
}

}  // namespace larder::resp
