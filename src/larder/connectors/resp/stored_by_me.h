#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

namespace larder::resp {

/// What this process has stored on the server and has not seen vanish: the only part of a shared
/// server that it can account for without asking.
///
/// Keys are known by a 64-bit hash: two with one hash count as one. What the server evicts or
/// expires counts until a lookup or a load of the key misses.
/// Threads: changes by one; keys() and bytes() from any.
class StoredByMe {
 public:
  /// `capacity_bytes` of values, 0: none. At most `keys_max` keys are known.
  StoredByMe(std::uint64_t capacity_bytes, std::size_t keys_max)
      : capacity_bytes_(capacity_bytes), keys_max_(keys_max) {}

  /// Room for a store that is about to be sent. False: it would exceed the capacity. Pair every
  /// success with one release() of the same bytes once its outcome is known.
  bool reserve(std::span<const std::byte> key, std::uint64_t value_bytes) noexcept;
  void release(std::uint64_t value_bytes) noexcept { reserved_bytes_ -= value_bytes; }

  void note_stored(std::span<const std::byte> key, std::uint64_t value_bytes);
  void note_gone(std::span<const std::byte> key) noexcept;

  std::uint64_t keys() const noexcept { return keys_.load(std::memory_order_relaxed); }
  std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
  /// Stores that were not counted because keys_max were known already.
  std::uint64_t uncounted_total() const noexcept {
    return uncounted_total_.load(std::memory_order_relaxed);
  }

 private:
  const std::uint64_t capacity_bytes_;
  const std::size_t keys_max_;
  std::uint64_t reserved_bytes_ = 0;
  std::unordered_map<std::uint64_t, std::uint64_t> sizes_;  ///< By the key's hash.
  std::atomic<std::uint64_t> keys_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> uncounted_total_ = 0;
};

}  // namespace larder::resp
