#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace larder::doors {

/// A hash table of keys of one length with 64 bits of state each: open addressing with linear
/// probing; the slots hold the keys.
///
/// Threads: the caller's lock guards it.
/// Cost: length + 8 bytes for a slot. While a table grows, 5/8 to 4/5 of its slots are in use;
/// after removals at least a quarter. Growing copies the table, so keep tables small. Invariant: a
/// slot is free if and only if its state is 0.
class KeyTable {
 public:
  explicit KeyTable(std::size_t key_bytes) noexcept : key_bytes_(key_bytes) {}

  std::size_t size() const noexcept { return used_; }
  std::size_t key_bytes() const noexcept { return key_bytes_; }
  std::size_t memory_bytes() const noexcept { return capacity_ * stride(); }

  /// The key's state, or 0 if there is no such key. `hash` is hash64() of the key.
  std::uint64_t find(std::span<const std::byte> key, std::uint64_t hash) const noexcept;
  /// Adds or changes. `state` is not 0.
  void set(std::span<const std::byte> key, std::uint64_t hash, std::uint64_t state);
  void erase(std::span<const std::byte> key, std::uint64_t hash);

  using Visit = std::function<void(std::span<const std::byte> key, std::uint64_t state)>;
  void for_each(const Visit& visit) const;
  /// Returns a key's new state; 0 removes the key.
  using Change = std::function<std::uint64_t(std::span<const std::byte> key, std::uint64_t state)>;
  void change_all(const Change& change);

 private:
  std::size_t stride() const noexcept { return key_bytes_ + sizeof(std::uint64_t); }
  std::byte* slot(std::size_t index) const noexcept { return slots_.get() + index * stride(); }
  std::span<const std::byte> key_of(std::size_t index) const noexcept {
    return {slot(index) + sizeof(std::uint64_t), key_bytes_};
  }
  std::uint64_t state_of(std::size_t index) const noexcept;
  void set_state(std::size_t index, std::uint64_t state) noexcept;
  std::size_t home_of(std::uint64_t hash) const noexcept;
  std::size_t next(std::size_t index) const noexcept {
    return index + 1 == capacity_ ? 0 : index + 1;
  }
  /// The key's slot, or the free slot where it belongs. The table must have a free slot.
  std::size_t slot_for(std::span<const std::byte> key, std::uint64_t hash) const noexcept;
  void rebuild(std::size_t capacity);

  std::size_t key_bytes_;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  std::unique_ptr<std::byte[]> slots_;
};

}  // namespace larder::doors
