#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/cache/ids.h"
#include "larder/connector/connector.h"

namespace larder::tiered {

/// An item of a caller's batch whose key is in use.
struct Waiter {
  Batch* batch = nullptr;
  std::uint32_t place = 0;
  bool changes = false;  ///< It needs the key for itself.
};

/// A key that is in L1 or in use. It stays where it is while either holds.
struct Key {
  cache::ChunkHash name;  ///< Its name in the engine.
  std::string text;
  std::uint32_t readers = 0;
  std::uint32_t stores = 0;  ///< The engine's, from L1 to a tier, in flight.
  bool is_changing = false;
  bool is_in_l1 = false;
  std::uint64_t pinned_until_ns = 0;         ///< See Pins; 0: it is not pinned.
  std::optional<std::uint64_t> shown_bytes;  ///< The value's, for other threads. Under the mutex.
  std::unique_ptr<std::deque<Waiter>> waiters;  ///< Null: none.
};

/// The keys that `tiered:` has to know: their names in the engine, and their users.
///
/// Names: 128 bits of XXH3, and a number that tells apart the keys of one hash that are known at
///   one time. So two keys never share a name (P10), and a key that comes back has the same name,
///   by which the engine's policies remember it.
/// Use: any number of readers, or one change. A change also waits for the engine's own stores of
///   the key: one that ended after it would restore the replaced value. Waiters are served in their
///   order. A store of the engine never waits.
/// Threads: one, but find_shown(), for which the table is changed under a mutex. Cost: O(1); one
///   allocation for a key that was not known.
class KeyTable {
 public:
  /// The filter of find_shown() takes a byte for each 4 KiB of L1, and 256 KiB at least.
  explicit KeyTable(std::uint64_t l1_bytes);
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;

  /// Null: the key is neither in L1 nor in use.
  Key* find(std::span<const std::byte> key) noexcept;
  const Key* find(const cache::ChunkHash& name) const noexcept;
  Key* find(const cache::ChunkHash& name) noexcept {
    return const_cast<Key*>(std::as_const(*this).find(name));
  }
  /// Follow it with take(), wait() or drop_unused().
  Key& find_or_make(std::span<const std::byte> key);
  void drop_unused(Key& key) LARDER_EXCLUDES(mutex_);

  /// No operation changes it, or waits to.
  bool is_free(const Key& key) const noexcept { return !key.is_changing && key.waiters == nullptr; }
  /// Whether it is used at once. No: wait(), or give up.
  bool take(Key& key, bool changes) noexcept;
  void wait(Key& key, const Waiter& waiter);
  /// Lets waiters in: see take_granted().
  void end(Key& key, bool changes);
  void begin_store(std::span<const std::byte> key);
  void end_store(std::span<const std::byte> key);

  struct Granted {
    Key* key = nullptr;
    Waiter waiter;
  };
  /// A waiter that has the key now. False: there is none.
  bool take_granted(Granted& granted);
  std::size_t waiting() const noexcept { return waiting_; }
  /// Moves every waiter that `is_over` to `out`. O(waiters).
  template <class IsOver>
  void take_waiters(const IsOver& is_over, std::vector<Waiter>& out);

  void set_in_l1(const cache::ChunkHash& name, bool is_in_l1) LARDER_EXCLUDES(mutex_);
  /// The value is in L1, for other threads to see: from here on until it leaves.
  void show(const cache::ChunkHash& name, std::uint64_t bytes) LARDER_EXCLUDES(mutex_);
  /// Any thread: of each missing item, a hit if its value is shown.
  void find_shown(std::span<Item> items) const noexcept LARDER_EXCLUDES(mutex_);
  /// Any thread: of each hit, place 0 if its value is shown.
  void place_shown(std::span<Item> items) const noexcept LARDER_EXCLUDES(mutex_);
  std::size_t size() const noexcept { return keys_.size(); }

 private:
  struct NameHash {
    std::size_t operator()(const cache::ChunkHash& name) const noexcept {
      return name.fingerprint();
    }
  };

  const Key* find_exactly(std::span<const std::byte> key) const noexcept;
  std::atomic<std::uint8_t>& filter_of(std::span<const std::byte> key) const noexcept;
  void find_shown(Item& item) const noexcept LARDER_EXCLUDES(mutex_);
  void set_shown(Key& key, std::optional<std::uint64_t> bytes) noexcept LARDER_EXCLUDES(mutex_);
  bool is_free_for(const Key& key, bool changes) const noexcept;
  void let_in(Key& key);

  /// Its own thread changes the map, and the shown state of a key, under the mutex, and reads
  /// without it.
  mutable Mutex mutex_;
  std::unordered_map<cache::ChunkHash, Key, NameHash> keys_;
  /// How many shown keys have a hash of this slot, so that most keys that are not there are
  /// rejected without the mutex. A key that is kFull stays so.
  static constexpr std::uint8_t kFull = 255;
  const std::size_t filter_mask_;
  mutable std::vector<std::atomic<std::uint8_t>> filter_;
  std::unordered_set<Key*> contested_;  ///< Keys with waiters.
  std::deque<Granted> granted_;
  std::size_t waiting_ = 0;
  std::uint64_t numbers_ = 1;  ///< Of names with one hash, the most that were needed so far.
};

template <class IsOver>
void KeyTable::take_waiters(const IsOver& is_over, std::vector<Waiter>& out) {
  std::vector<Key*> touched;
  for (Key* const key : contested_) {
    const std::size_t before = out.size();
    std::erase_if(*key->waiters, [&](const Waiter& waiter) {
      if (!is_over(waiter)) return false;
      out.push_back(waiter);
      return true;
    });
    waiting_ -= out.size() - before;
    if (out.size() > before) touched.push_back(key);
  }
  for (Key* const key : touched) {
    let_in(*key);
    drop_unused(*key);
  }
}

}  // namespace larder::tiered
