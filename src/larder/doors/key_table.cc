#include "larder/doors/key_table.h"

#include <algorithm>
#include <cstring>

#include "larder/base/hash.h"

namespace larder::doors {
namespace {

constexpr std::size_t kCapacityMin = 4;

/// The number of slots of a table that shrinks to `keys`.
std::size_t capacity_for(std::size_t keys) noexcept {
  return std::max(kCapacityMin, keys + keys / 2);
}

}  // namespace

std::uint64_t KeyTable::state_of(std::size_t index) const noexcept {
  std::uint64_t state = 0;
  std::memcpy(&state, slot(index), sizeof state);
  return state;
}

void KeyTable::set_state(std::size_t index, std::uint64_t state) noexcept {
  std::memcpy(slot(index), &state, sizeof state);
}

std::size_t KeyTable::home_of(std::uint64_t hash) const noexcept {
  // The high bits choose the slot: KeyAccounts chooses the table by the low ones.
  return static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * capacity_) >> 64U);
}

std::size_t KeyTable::slot_for(std::span<const std::byte> key, std::uint64_t hash) const noexcept {
  std::size_t at = home_of(hash);
  while (state_of(at) != 0 && !std::ranges::equal(key_of(at), key)) at = next(at);
  return at;
}

std::uint64_t KeyTable::find(std::span<const std::byte> key, std::uint64_t hash) const noexcept {
  return capacity_ == 0 ? 0 : state_of(slot_for(key, hash));
}

void KeyTable::set(std::span<const std::byte> key, std::uint64_t hash, std::uint64_t state) {
  // Grow before the search, which needs a free slot.
  if ((used_ + 1) * 5 > capacity_ * 4) {
    rebuild(std::max(capacity_ + capacity_ / 4 + 1, kCapacityMin));
  }
  const std::size_t at = slot_for(key, hash);
  if (state_of(at) == 0) {
    std::ranges::copy(key, slot(at) + sizeof state);
    ++used_;
  }
  set_state(at, state);
}

void KeyTable::erase(std::span<const std::byte> key, std::uint64_t hash) {
  if (capacity_ == 0) return;
  std::size_t hole = slot_for(key, hash);
  if (state_of(hole) == 0) return;
  --used_;
  // Move the following entries up, but none of them before its home slot.
  for (std::size_t at = next(hole); state_of(at) != 0; at = next(at)) {
    const std::size_t home = home_of(hash64(key_of(at)));
    const std::size_t from_home = (at + capacity_ - home) % capacity_;
    const std::size_t from_hole = (at + capacity_ - hole) % capacity_;
    if (from_home < from_hole) continue;
    std::memcpy(slot(hole), slot(at), stride());
    hole = at;
  }
  set_state(hole, 0);
  if (capacity_ > kCapacityMin && used_ * 4 < capacity_) rebuild(capacity_for(used_));
}

void KeyTable::for_each(const Visit& visit) const {
  for (std::size_t i = 0; i < capacity_; ++i) {
    if (const std::uint64_t state = state_of(i); state != 0) visit(key_of(i), state);
  }
}

void KeyTable::change_all(const Change& change) {
  std::size_t removed = 0;
  for (std::size_t i = 0; i < capacity_; ++i) {
    const std::uint64_t state = state_of(i);
    if (state == 0) continue;
    const std::uint64_t changed = change(key_of(i), state);
    set_state(i, changed);
    removed += changed == 0 ? 1 : 0;
  }
  used_ -= removed;
  // The holes have broken the runs of slots that lookups follow.
  if (removed > 0) rebuild(used_ * 4 < capacity_ ? capacity_for(used_) : capacity_);
}

void KeyTable::rebuild(std::size_t capacity) {
  KeyTable made{key_bytes_};
  made.slots_ = std::make_unique<std::byte[]>(capacity * stride());
  made.capacity_ = capacity;
  made.used_ = used_;
  for_each([&](std::span<const std::byte> key, std::uint64_t state) {
    const std::size_t at = made.slot_for(key, hash64(key));
    std::ranges::copy(key, made.slot(at) + sizeof state);
    made.set_state(at, state);
  });
  *this = std::move(made);
}

}  // namespace larder::doors
