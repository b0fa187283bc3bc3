#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace larder::resp {

/// The values that this process has stored on the server and does not know to be gone: the only
/// part of a shared server that it can account for.
///
/// Keys are known by a 64-bit hash: two with one hash count as one. With a capacity the keys are
/// kept too, so that the server can be asked about them; see Audit. Without one, a value that the
/// server lost counts until a lookup or a load of its key misses, or keep_at_most() shows that it
/// is gone.
/// Threads: changes by one; keys() and bytes() from any. Cost: about 40 bytes a key, with a
/// capacity 90 and the key.
class OwnWrites {
 public:
  /// One key as it was when it was looked at.
  struct Sighting {
    std::uint64_t hash = 0;
    std::uint64_t version = 0;  ///< Another one: it was stored again since.
  };

  /// `capacity_bytes` of values, 0: none. Forgets keys beyond `keys_max`.
  OwnWrites(std::uint64_t capacity_bytes, std::size_t keys_max)
      : capacity_bytes_(capacity_bytes), keys_max_(keys_max) {}

  bool keeps_keys() const noexcept { return capacity_bytes_ > 0; }

  /// Reserves room for a store that will be sent. False: it would exceed the capacity. Pair every
  /// success with one release() of the same bytes once its outcome is known.
  bool reserve(std::span<const std::byte> key, std::uint64_t value_bytes) noexcept;
  void release(std::uint64_t value_bytes) noexcept { reserved_bytes_ -= value_bytes; }

  void note_stored(std::span<const std::byte> key, std::uint64_t value_bytes);
  void note_gone(std::span<const std::byte> key) noexcept;
  /// The server holds no such key (0), or a value of another size than was stored. False: nothing
  /// was changed, because the key was stored again meanwhile or is not known any more.
  bool note_size(const Sighting& sighting, std::uint64_t value_bytes) noexcept;
  /// Forgets keys, whichever, until `keys` are left, because there cannot be more: so many in one
  /// call that it does not take long.
  void keep_at_most(std::uint64_t keys) noexcept;

  /// Calls visit(Sighting, key) for some keys, in an arbitrary order, until it returns false, the
  /// end is reached, or it has taken long. `cursor` is the position to begin at, and then the one
  /// to continue from. True: the end was reached, and the next call begins again. Not for values of
  /// 0 bytes, which need no room.
  template <class Visit>
  bool visit_from(std::size_t& cursor, Visit visit) const;

  std::uint64_t keys() const noexcept { return keys_.load(std::memory_order_relaxed); }
  std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
  /// Stores that were not counted because keys_max were known already.
  std::uint64_t uncounted_total() const noexcept {
    return uncounted_total_.load(std::memory_order_relaxed);
  }
  /// note_stored() calls.
  std::uint64_t stored_total() const noexcept { return stored_total_; }

 private:
  struct Entry {
    std::uint64_t bytes = 0;
    std::uint64_t version = 0;
    std::string key;  ///< Empty without a capacity.
  };
  static constexpr std::size_t kForgottenMax = 100'000;
  static constexpr std::size_t kBucketsMax = std::size_t{1} << 16;
  using Entries = std::unordered_map<std::uint64_t, Entry>;  ///< By the key's hash.

  void forget(Entries::iterator entry) noexcept;

  const std::uint64_t capacity_bytes_;
  const std::size_t keys_max_;
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t stored_total_ = 0;
  Entries entries_;
  std::atomic<std::uint64_t> keys_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> uncounted_total_ = 0;
};

template <class Visit>
bool OwnWrites::visit_from(std::size_t& cursor, Visit visit) const {
  // A whole bucket at a time: the iterators of the map do not survive its changes.
  const std::size_t last = cursor + kBucketsMax;
  for (; cursor < entries_.bucket_count(); ++cursor) {
    if (cursor == last) return false;
    for (auto at = entries_.begin(cursor); at != entries_.end(cursor); ++at) {
      const Entry& entry = at->second;
      if (entry.bytes == 0) continue;
      const Sighting sighting{.hash = at->first, .version = entry.version};
      if (!visit(sighting, std::string_view{entry.key})) return false;
    }
  }
  cursor = 0;
  return true;
}

}  // namespace larder::resp
