#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "larder/connectors/log/format/fingerprint.h"
#include "larder/connectors/log/index/reader_epochs.h"

namespace larder::log_store {

/// The position of a record on its path.
struct Location {
  std::uint32_t segment = 0;  ///< Below Index::kSegmentsMax.
  /// Grain of the record's header, or of a value in a pack; counted from the segment's start.
  std::uint32_t grain = 0;
  friend bool operator==(const Location&, const Location&) = default;
};

struct IndexEntry {
  Location location{};
  std::uint32_t value_bytes = 0;
  bool was_read = false;   ///< Since it was written: worth keeping when its segment goes.
  std::uint32_t note = 0;  ///< UseLedger's: how it was used. The index only keeps it.
  bool is_packed = false;  ///< The value has no header of its own, and `tag` vouches for it.
  std::uint64_t tag = 0;   ///< value_tag(), if packed.
  friend bool operator==(const IndexEntry&, const IndexEntry&) = default;
};

/// Which keys a path has, and where: 32 bytes an entry in 256 shards, each rebuilt on its own when
/// it gets too full or too empty.
///
/// A key is known by fingerprint.low alone: of a billion keys two share it once in some forty
/// stores, and then the later one takes the other's place. The full key decides at a load. The
/// tag of a packed value stands where the other half would.
/// Threads: one writer thread calls assign(), erase(), erase_if_at(), set_was_read() and
///   set_note(); const functions may be called from any thread at any time and take no lock. A
///   reader that meets a change of its shard looks again. Such a change is some dozens of stores
///   long, a rebuild is made aside and shows as one of three stores; so a reader repeats itself
///   only in the time that it takes to write, or while the writer is descheduled within those
///   stores (it then yields).
/// Invariant: within a shard, entries are in the order of fingerprint.low, none before its home
///   slot, without a gap between an entry and its home. The last slot is never used, so that every
///   scan ends within the array, also one that loses a race.
/// Ownership: arrays are mapped page by page, apart from the heap. One that was replaced is
///   unmapped by the writer once no reader can still be in it; the writer never waits for that.
/// Cost: a find touches one or two cache lines of an array. Memory stays within 48 bytes a key from
///   1 M keys on, growing or shrinking, including a shard that is being rebuilt. A rebuild copies a
///   256th of the entries (1 ms at 25 M keys) and happens once per tenth of growth.
/// Why not a map from a library: none can be read without a lock while it is written and grow
///   piecewise within 1.5 times its payload.
class Index {
 public:
  static constexpr std::size_t kShards = 256;
  static constexpr std::uint32_t kSegmentsMax = 1U << 24;

  /// `bytes_max` bounds bytes(). Below 1 MiB not every shard gets its first page.
  explicit Index(std::uint64_t bytes_max);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  /// Inserts or replaces. False, and nothing changed, if it would need to grow beyond `bytes_max`
  /// or the system has no memory: remove a key and retry.
  [[nodiscard]] bool assign(const Fingerprint& fingerprint, const IndexEntry& entry);
  /// These four return false when the fingerprint is not there.
  bool erase(const Fingerprint& fingerprint);
  /// False also when the entry points elsewhere.
  bool erase_if_at(const Fingerprint& fingerprint, Location location);
  bool set_was_read(const Fingerprint& fingerprint);
  bool set_note(const Fingerprint& fingerprint, std::uint32_t note);

  /// Reserves room for that many keys in all, as far as `bytes_max` allows: filling up is then
  /// several times as fast. reserve(0) ends that and frees the surplus.
  void reserve(std::uint64_t keys);

  std::optional<IndexEntry> find(const Fingerprint& fingerprint) const noexcept;
  /// found[i] tells whether entries[i] was filled. The three are of one length. Several times the
  /// speed of find() from some dozens of fingerprints on, as it has many cache misses at once.
  void find_many(std::span<const Fingerprint> fingerprints, std::span<IndexEntry> entries,
                 std::span<std::uint8_t> found) const noexcept;
  /// Everything that points into `segment`. A walk over the whole index, for a segment whose table
  /// cannot be used. The fingerprint.high of packed values is 0. The writer only.
  std::vector<std::pair<Fingerprint, IndexEntry>> entries_in(std::uint32_t segment) const;
  /// The position of a walk over all entries. Begins anywhere, and goes round.
  struct Walk {
    std::uint32_t shard = 0;
    std::uint64_t slot = 0;
    std::uint64_t rounds = 0;  ///< How often the end was passed.
  };
  /// The next entries, as many as `out` has room for, or fewer in sparse regions; returns how many.
  /// Ends with a round. An entry that exists for a whole round is returned once, except in a shard
  /// that was rebuilt meanwhile. The writer only. Cost: reads memory in order, four slots for each
  /// entry of `out` at most.
  std::size_t next_entries(Walk& walk, std::span<IndexEntry> out) const noexcept;
  /// A hint that the fingerprint will be looked for or assigned some dozens of operations later.
  void prefetch(const Fingerprint& fingerprint) const noexcept;

  std::uint64_t keys() const noexcept { return keys_.load(std::memory_order_relaxed); }
  /// Mapped for arrays now, the replaced ones that a reader still holds included.
  std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

 private:
  /// Readers use the first three: `sequence` is odd while the writer changes anything but one word.
  /// The others are the writer's.
  struct alignas(64) Shard {
    std::atomic<std::uint64_t> sequence = 0;
    std::atomic<std::uint64_t*> words = nullptr;  ///< Four per slot. Null: no array yet.
    std::atomic<std::uint64_t> homes = 0;         ///< Number of home slots.
    std::uint64_t slots = 0;  ///< All slots: an overflow tail follows the homes.
    std::uint64_t used = 0;
  };
  struct Retired {
    std::uint64_t* words = nullptr;
    std::uint64_t slots = 0;
    std::uint64_t replaced_in = 0;  ///< The epoch.
  };
  class ReaderScope;
  class ChangeScope;

  static bool find_in(const Shard& shard, const Fingerprint& fingerprint,
                      IndexEntry& entry) noexcept;
  Shard& shard_of(const Fingerprint& fingerprint) noexcept {
    return shards_[fingerprint.low % kShards];
  }
  const Shard& shard_of(const Fingerprint& fingerprint) const noexcept {
    return shards_[fingerprint.low % kShards];
  }
  /// The entry's four words, or null. For the writer.
  std::uint64_t* find_slot(const Fingerprint& fingerprint) noexcept;
  void erase_slot(Shard& shard, std::uint64_t* slot);
  void shrink_if_sparse(Shard& shard);
  bool rebuild(Shard& shard, std::uint64_t keys, std::uint64_t slots_max);
  void retire(std::uint64_t* words, std::uint64_t slots);
  void free_retired() noexcept;
  std::uint64_t* map(std::uint64_t slots) noexcept;
  void unmap(std::uint64_t* words, std::uint64_t slots) noexcept;

  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> keys_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::vector<Retired> retired_;               ///< The writer's.
  std::uint64_t reserved_keys_per_shard_ = 0;  ///< The writer's.
  std::array<Shard, kShards> shards_;

  mutable ReaderEpochs epochs_;
};

}  // namespace larder::log_store
