#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "larder/base/hash.h"
#include "larder/base/mutex.h"
#include "larder/connector/connector.h"
#include "larder/connector/intake.h"
#include "larder/connector/registry.h"

namespace larder::memory {

struct MemoryOptions {
  std::uint64_t capacity_bytes = std::uint64_t{1} << 30;  ///< Bytes of keys and values together.
  std::uint64_t value_bytes_max = kValueBytesMax;
  double pins_share = 0.25;       ///< Share of the capacity that pinned and retained keys may take.
  std::size_t events_max = 4096;  ///< Kept for events(); the oldest make room.
  BatchLimitOptions limits = {};
  std::uint64_t miss_after_failure_ns = 30'000'000'000;  ///< C6, after a missed deadline.
};

/// A bounded map that evicts the least recently used key. The reference that the conformance suite
/// trusts, so it is written for being right: one mutex, and everything happens inside submit(), in
/// the caller's thread. A submitted batch is finished when submit() returns, and waits for reap();
/// submit() copies the values, so a large batch keeps its caller busy. Deadlines are checked
/// between items; cancel() has nothing to do.
///
/// Hints: everything is where it is loaded fastest, so a prefetch is a touch, and a pin and a
///   retention are the same: the entry is held, and not evicted. While held entries leave too
///   little room for a value, its Set is refused.
///
/// Ownership: owns copies of keys and values. After submit() returns it keeps only a pointer to the
/// batch, until that is reaped.
/// Threads: as the contract says. Cost: a copy and an XXH3-128 of every value, under the mutex.
/// Invariant: bytes_used_ is the sum of key and value bytes of entries_ and at most the capacity;
/// by_age_ holds exactly the entries of entries_, and so do by_use_ and held_ together.
class MemoryConnector final : public Connector {
 public:
  explicit MemoryConnector(const MemoryOptions& options);
  ~MemoryConnector() override = default;
  MemoryConnector(const MemoryConnector&) = delete;
  MemoryConnector& operator=(const MemoryConnector&) = delete;

  Status submit(Batch& batch) noexcept override LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake_.reap(done); }
  int event_fd() const noexcept override { return intake_.event_fd(); }
  void cancel(Batch& /*batch*/) noexcept override {}
  bool probe(std::span<Item> items) const noexcept override LARDER_EXCLUDES(mutex_);
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return intake_.load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override;
  Report report() const override LARDER_EXCLUDES(mutex_);
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override LARDER_EXCLUDES(mutex_);
  Result<EventPage> events(EventCursor from, std::size_t events_max) const override
      LARDER_EXCLUDES(mutex_);
  Status stop(std::uint64_t deadline_ns) noexcept override;

  /// Flips a bit of a stored value, so that tests can see that a Get notices. False: no such key,
  /// or a value of 0 bytes.
  bool damage_for_test(std::string_view key) LARDER_EXCLUDES(mutex_);

 private:
  struct Entry {
    std::string_view key;  ///< In the map's node.
    std::unique_ptr<std::byte[]> value;
    std::size_t value_bytes = 0;
    Hash128 checksum;
    std::uint64_t age = 0;            ///< Grows from key to key; a replacement keeps it.
    std::list<Entry*>::iterator use;  ///< Position in by_use_, or in held_.
    std::uint64_t held_until_ns = 0;  ///< 0: it is not held.

    std::uint64_t bytes() const noexcept { return key.size() + value_bytes; }
  };
  struct KeyHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const noexcept {
      return std::hash<std::string_view>{}(key);
    }
  };
  using Entries = std::unordered_map<std::string, Entry, KeyHash, std::equal_to<>>;
  struct Totals {
    Evictions evictions;
    std::uint64_t corruptions = 0;
    std::uint64_t holds_refused = 0;
  };

  Status run(const Batch& batch, Item& item) noexcept LARDER_EXCLUDES(mutex_);
  Status run_locked(const Batch& batch, Item& item) LARDER_REQUIRES(mutex_);
  Status get_locked(const Batch& batch, Item& item) LARDER_REQUIRES(mutex_);
  Status touch_locked(const Batch& batch, Item& item) LARDER_REQUIRES(mutex_);
  Status hold_locked(Entry& entry, std::uint64_t hold_ns) LARDER_REQUIRES(mutex_);
  void let_go_locked(Entry& entry) noexcept LARDER_REQUIRES(mutex_);
  void end_holds_locked() LARDER_REQUIRES(mutex_);
  Status set_locked(const Batch& batch, Item& item) LARDER_REQUIRES(mutex_);
  void exists_locked(Item& item) const LARDER_REQUIRES(mutex_);
  void insert_locked(std::string_view key, Entry entry) LARDER_REQUIRES(mutex_);
  void evict_until_locked(std::uint64_t bytes_used) LARDER_REQUIRES(mutex_);
  void remove_locked(Entries::iterator found) noexcept LARDER_REQUIRES(mutex_);
  void mark_used_locked(Entry& entry) noexcept LARDER_REQUIRES(mutex_);
  void note_event_locked(EventPage::Kind kind, std::string_view key,
                         std::uint64_t value_bytes) noexcept LARDER_REQUIRES(mutex_);

  const MemoryOptions options_;
  Intake intake_;

  mutable Mutex mutex_;
  Entries entries_ LARDER_GUARDED_BY(mutex_);
  std::map<std::uint64_t, Entry*> by_age_ LARDER_GUARDED_BY(mutex_);
  std::list<Entry*> by_use_ LARDER_GUARDED_BY(mutex_);  ///< Least recently used first.
  std::list<Entry*> held_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t held_bytes_ LARDER_GUARDED_BY(mutex_) = 0;
  /// No hold ends before it. May be too early, because a hold may end before its time.
  std::uint64_t first_end_ns_ LARDER_GUARDED_BY(mutex_) = kNever;
  std::uint64_t bytes_used_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t last_age_ LARDER_GUARDED_BY(mutex_) = 0;
  std::deque<EventPage::Event> events_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t events_dropped_ LARDER_GUARDED_BY(mutex_) = 0;  ///< Position of events_.front().
  Totals totals_ LARDER_GUARDED_BY(mutex_);
};

const ConnectorType& connector_type();

}  // namespace larder::memory
