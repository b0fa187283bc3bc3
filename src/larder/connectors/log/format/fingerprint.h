#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "larder/base/hash.h"

namespace larder::log_store {

/// Stands for a key in memory. Keyed by the store's seed, so that two keys with one fingerprint
/// cannot be made on purpose; if two keys collide, the full key in the record decides. Every value
/// is legal.
struct Fingerprint {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

inline Fingerprint fingerprint_of(std::span<const std::byte> key, std::uint64_t seed) noexcept {
  const Hash128 hash = hash128(key, seed);
  return {.low = hash.low, .high = hash.high};
}

}  // namespace larder::log_store
