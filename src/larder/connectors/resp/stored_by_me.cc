#include "larder/connectors/resp/stored_by_me.h"

#include "larder/base/hash.h"

namespace larder::resp {

bool StoredByMe::reserve(std::span<const std::byte> key, std::uint64_t value_bytes) noexcept {
  if (capacity_bytes_ > 0) {
    std::uint64_t others = bytes() + reserved_bytes_;
    const auto known = sizes_.find(hash64(key));
    if (known != sizes_.end()) others -= known->second;
    if (known == sizes_.end() && sizes_.size() >= keys_max_) return false;
    if (others > capacity_bytes_ || value_bytes > capacity_bytes_ - others) return false;
  }
  reserved_bytes_ += value_bytes;
  return true;
}

void StoredByMe::note_stored(std::span<const std::byte> key, std::uint64_t value_bytes) {
  const std::uint64_t hash = hash64(key);
  if (sizes_.size() >= keys_max_ && !sizes_.contains(hash)) {
    uncounted_total_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const auto [place, is_new] = sizes_.try_emplace(hash, 0);
  // The sum first: nobody sees more keys than there are.
  bytes_.fetch_add(value_bytes - place->second, std::memory_order_relaxed);
  place->second = value_bytes;
  if (is_new) keys_.fetch_add(1, std::memory_order_relaxed);
}

void StoredByMe::note_gone(std::span<const std::byte> key) noexcept {
  if (sizes_.empty()) return;
  const auto known = sizes_.find(hash64(key));
  if (known == sizes_.end()) return;
  bytes_.fetch_sub(known->second, std::memory_order_relaxed);
  keys_.fetch_sub(1, std::memory_order_relaxed);
  sizes_.erase(known);
}

}  // namespace larder::resp
