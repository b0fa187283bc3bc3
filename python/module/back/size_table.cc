#include "module/back/size_table.h"

namespace larder::python {

void SizeTable::set(std::span<const std::byte> key, std::uint64_t bytes) {
  const Hash128 hash = hash128(key);
  const MutexLock lock{mutex_};
  const auto found = sizes_.find(hash);
  if (found != sizes_.end()) {
    bytes_ += bytes - found->second;
    found->second = bytes;
  } else if (sizes_.size() < kKeysMax) {
    sizes_.emplace(hash, bytes);
    bytes_ += bytes;
  }
}

void SizeTable::erase(std::span<const std::byte> key) noexcept {
  const Hash128 hash = hash128(key);
  const MutexLock lock{mutex_};
  const auto found = sizes_.find(hash);
  if (found == sizes_.end()) return;
  bytes_ -= found->second;
  sizes_.erase(found);
}

std::optional<std::uint64_t> SizeTable::find(std::span<const std::byte> key) const noexcept {
  const Hash128 hash = hash128(key);
  const MutexLock lock{mutex_};
  const auto found = sizes_.find(hash);
  if (found == sizes_.end()) return std::nullopt;
  return found->second;
}

SizeTable::Totals SizeTable::totals() const noexcept {
  const MutexLock lock{mutex_};
  return {sizes_.size(), bytes_};
}

}  // namespace larder::python
