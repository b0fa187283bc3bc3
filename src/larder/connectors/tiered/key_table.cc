#include "larder/connectors/tiered/key_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "larder/base/check.h"
#include "larder/base/hash.h"
#include "larder/base/key_text.h"

namespace larder::tiered {
namespace {

constexpr std::uint64_t kFilterSlotsMin = std::uint64_t{1} << 18;
constexpr std::uint64_t kBytesPerSlot = 4096;

cache::ChunkHash name_of(const Hash128& hash, std::uint64_t number) noexcept {
  const std::uint64_t words[] = {hash.low, hash.high, number};
  cache::ChunkHash name;
  static_assert(sizeof words <= sizeof name.bytes);
  std::memcpy(name.bytes.data(), words, sizeof words);
  return name;
}

}  // namespace

const Key* KeyTable::find_exactly(std::span<const std::byte> key) const noexcept {
  const Hash128 hash = hash128(key);
  for (std::uint64_t number = 0; number < numbers_; ++number) {
    const auto found = keys_.find(name_of(hash, number));
    if (found != keys_.end() && found->second.text == as_text(key)) return &found->second;
  }
  return nullptr;
}

KeyTable::KeyTable(std::uint64_t l1_bytes)
    : filter_mask_(std::bit_ceil(std::max(kFilterSlotsMin, l1_bytes / kBytesPerSlot)) - 1),
      filter_(filter_mask_ + 1) {}

std::atomic<std::uint8_t>& KeyTable::filter_of(std::span<const std::byte> key) const noexcept {
  return filter_[hash64(key) & filter_mask_];
}

Key* KeyTable::find(std::span<const std::byte> key) noexcept {
  return const_cast<Key*>(find_exactly(key));
}

const Key* KeyTable::find(const cache::ChunkHash& name) const noexcept {
  const auto found = keys_.find(name);
  return found == keys_.end() ? nullptr : &found->second;
}

Key& KeyTable::find_or_make(std::span<const std::byte> key) {
  if (Key* const found = find(key)) return *found;
  const Hash128 hash = hash128(key);
  std::uint64_t number = 0;
  while (keys_.contains(name_of(hash, number))) ++number;
  const MutexLock lock{mutex_};
  numbers_ = std::max(numbers_, number + 1);
  const cache::ChunkHash name = name_of(hash, number);
  Key& made = keys_[name];
  made.name = name;
  made.text = as_text(key);
  return made;
}

void KeyTable::drop_unused(Key& key) {
  const bool is_used = key.readers > 0 || key.stores > 0 || key.is_changing || key.is_in_l1;
  if (is_used || key.waiters != nullptr) return;
  const cache::ChunkHash name = key.name;
  const MutexLock lock{mutex_};
  keys_.erase(name);
}

bool KeyTable::is_free_for(const Key& key, bool changes) const noexcept {
  if (key.is_changing) return false;
  return !changes || (key.readers == 0 && key.stores == 0);
}

bool KeyTable::take(Key& key, bool changes) noexcept {
  if (key.waiters != nullptr || !is_free_for(key, changes)) return false;
  if (changes) {
    key.is_changing = true;
  } else {
    ++key.readers;
  }
  return true;
}

void KeyTable::wait(Key& key, const Waiter& waiter) {
  if (key.waiters == nullptr) {
    key.waiters = std::make_unique<std::deque<Waiter>>();
    contested_.insert(&key);
  }
  key.waiters->push_back(waiter);
  ++waiting_;
}

void KeyTable::let_in(Key& key) {
  if (key.waiters == nullptr) return;
  std::deque<Waiter>& waiters = *key.waiters;
  while (!waiters.empty() && is_free_for(key, waiters.front().changes)) {
    const Waiter waiter = waiters.front();
    waiters.pop_front();
    --waiting_;
    if (waiter.changes) {
      key.is_changing = true;
    } else {
      ++key.readers;
    }
    granted_.push_back({&key, waiter});
  }
  if (!waiters.empty()) return;
  contested_.erase(&key);
  key.waiters.reset();
}

void KeyTable::end(Key& key, bool changes) {
  if (changes) {
    LARDER_CHECK(key.is_changing);
    key.is_changing = false;
  } else {
    LARDER_CHECK(key.readers > 0);
    --key.readers;
  }
  let_in(key);
  drop_unused(key);
}

void KeyTable::begin_store(std::span<const std::byte> key) {
  ++find_or_make(key).stores;
}

void KeyTable::end_store(std::span<const std::byte> key) {
  Key* const found = find(key);
  LARDER_CHECK(found != nullptr && found->stores > 0);
  --found->stores;
  let_in(*found);
  drop_unused(*found);
}

bool KeyTable::take_granted(Granted& granted) {
  if (granted_.empty()) return false;
  granted = granted_.front();
  granted_.pop_front();
  return true;
}

void KeyTable::set_in_l1(const cache::ChunkHash& name, bool is_in_l1) {
  const auto found = keys_.find(name);
  LARDER_CHECK(found != keys_.end());
  found->second.is_in_l1 = is_in_l1;
  if (is_in_l1) return;
  set_shown(found->second, std::nullopt);
  drop_unused(found->second);
}

void KeyTable::set_shown(Key& key, std::optional<std::uint64_t> bytes) noexcept {
  const MutexLock lock{mutex_};
  const bool was_shown = key.shown_bytes.has_value();
  key.shown_bytes = bytes;
  if (was_shown == bytes.has_value()) return;
  std::atomic<std::uint8_t>& slot = filter_of(std::as_bytes(std::span{key.text}));
  const std::uint8_t count = slot.load(std::memory_order_relaxed);  // Changed under the mutex only.
  if (count == kFull) return;
  slot.store(static_cast<std::uint8_t>(was_shown ? count - 1 : count + 1),
             std::memory_order_release);
}

void KeyTable::show(const cache::ChunkHash& name, std::uint64_t bytes) {
  const auto found = keys_.find(name);
  if (found == keys_.end() || !found->second.is_in_l1) return;  // It has left again.
  set_shown(found->second, bytes);
}

void KeyTable::find_shown(std::span<Item> items) const noexcept {
  std::array<Item*, 64> missing;
  std::array<const std::atomic<std::uint8_t>*, 64> filters;
  while (!items.empty()) {
    const std::span<Item> some = items.first(std::min(items.size(), missing.size()));
    items = items.subspan(some.size());
    // Which keys are missing cannot be predicted: they are collected without a branch.
    std::size_t count = 0;
    for (Item& item : some) {
      missing[count] = &item;
      count += item.outcome == Outcome::kMiss ? 1 : 0;
    }
    // The filter is larger than the fast caches: all of these are fetched side by side.
    for (std::size_t i = 0; i < count; ++i) {
      filters[i] = &filter_of(missing[i]->key);
      __builtin_prefetch(filters[i]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (filters[i]->load(std::memory_order_acquire) != 0) find_shown(*missing[i]);
    }
  }
}

void KeyTable::place_shown(std::span<Item> items) const noexcept {
  for (Item& item : items) {
    if (item.outcome != Outcome::kHit) continue;
    if (filter_of(item.key).load(std::memory_order_acquire) != 0) find_shown(item);
  }
}

void KeyTable::find_shown(Item& item) const noexcept {
  const MutexLock lock{mutex_};
  const Key* const key = find_exactly(item.key);
  if (key == nullptr || !key->shown_bytes) return;
  item.outcome = Outcome::kHit;
  item.value_bytes = *key->shown_bytes;
  item.place = 0;
}

}  // namespace larder::tiered
