#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/base/indexed_heap.h"
#include "larder/cache/column_table.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/engine_stats.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache {

/// The purpose for which room is made.
struct RoomWish {
  SaltId salt{};
  LayoutId layout{};
  std::uint64_t taken = 0;  ///< Bytes of the arena.
};

/// Which column goes next (E18 to E22). It chooses; Cells evicts.
///
/// Partitions: one Policy orders the columns of all salts, and another one those of each salt with
/// a quota in L1; with a policy that is partitioned by salt, every salt has its own. A partition
///   begins with its first column and ends with its last one.
/// Quotas: a salt's bytes are those of its slots that are written, loading or resident. Above its
///   limit it loses its own columns; up to its guarantee it loses none to others.
/// When a quota ends, the salt's columns stay in its old partition, without limit and guarantee,
///   are evicted by their age among all others, and move to the shared order at their next use.
/// Choice: of the partitions that may lose a column, the one whose coldest was used longest ago;
///   within it the coldest of the wish's own size class that no connector wants, among the first
///   kCandidates.
/// Invariant: a column with a resident cell is in the policy of its partition from the first time
///   on that it has no pins, and is hidden there while it has some.
/// Threads: the engine's. Cost: victim() is O(log partitions) for each partition that has changed
///   since the last one, the rest O(log partitions) and the policy's own; set_quota() walks all
///   columns.
class Room {
 public:
  static constexpr std::size_t kCandidates = 8;

  Room(EngineState& state, ColumnTable& columns, std::uint64_t capacity_bytes);

  // ---- Columns. Their use is numbered here.
  void insert(ColumnId column);
  void resize(ColumnId column);
  void touch(ColumnId column);
  /// The uses of this salt that follow are one request's, the deepest chunk first.
  void begin_chain(SaltId salt, const ChainUse& chain);
  void hide(ColumnId column);
  void show(ColumnId column);
  void cool(ColumnId column);
  void erase(ColumnId column, Removal why);
  /// E20: columns that are not kept are freed at once if the policy evicts nothing.
  bool frees_at_once() const noexcept { return is_noop_; }

  // ---- Bytes by salt.
  void charge(SaltId salt, std::uint64_t bytes);
  void discharge(SaltId salt, std::uint64_t bytes) noexcept;
  bool is_within_limit(SaltId salt, std::uint64_t more) const noexcept;
  /// A reservation of the salt got no room, for its limit alone.
  void note_refused(SaltId salt) { ++salt_of(salt).refused; }
  const Quota& quota(SaltId salt) const noexcept;
  void set_quota(SaltId salt, const Quota& quota);
  /// All but its bytes in the tiers; zeros for a salt that was never seen.
  SaltStats stats_of(SaltId salt) const noexcept;
  std::size_t salts() const noexcept { return salts_.size(); }
  /// Of all salts.
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t columns() const noexcept { return columns_in_; }

  // ---- Victims.
  /// kNone: no column may go.
  ColumnId victim(const RoomWish& wish);
  /// The salt is above its limit: only its own columns help.
  ColumnId own_victim(const RoomWish& wish);
  /// Of a salt that is above its limit. kNone: there is none, or it has only columns with pins.
  ColumnId victim_above_limit();

  /// Policies and columns agree, and so do the sums. Aborts otherwise. O(columns).
  void check_invariants() const;

 private:
  /// The bytes that others may take from a partition.
  enum class Standing : std::uint8_t {
    kFree = 0,
    kAboveLimit,  ///< It loses its columns first.
    kGuaranteed,  ///< It loses none to others.
  };
  static constexpr std::size_t kStandings = 3;

  struct Partition {
    std::unique_ptr<Policy> policy;  ///< Null: its number is not in use.
    std::uint32_t number = 0;
    SaltId salt{};
    bool is_shared = false;  ///< By the salts without one of their own.
    bool is_left = false;    ///< Its salt's quota has ended.
    Standing standing = Standing::kFree;
    bool is_stale = false;  ///< It has changed since `stamp` was asked for.
    std::uint64_t stamp = Policy::kNoVictim;
    std::size_t place = 0;  ///< In the heap of its standing.
  };
  /// The partition with the coldest column first.
  struct ByStamp {
    static bool is_before(const Partition& a, const Partition& b) noexcept {
      return a.stamp != b.stamp ? a.stamp < b.stamp : a.number < b.number;
    }
    static std::size_t place(const Partition& partition) noexcept { return partition.place; }
    static void set_place(Partition& partition, std::size_t place) noexcept {
      partition.place = place;
    }
  };
  struct Salt {
    Quota quota{};
    std::uint64_t bytes = 0;
    std::uint64_t columns = 0;
    std::uint64_t refused = 0;
    std::uint32_t partition = 0;  ///< The shared one, also while its own has no column.
  };

  Salt& salt_of(SaltId salt);
  /// Its columns are not in the shared order.
  bool is_apart(const Quota& quota) const noexcept;
  std::uint64_t policy_bytes(const Quota& quota) const noexcept;
  /// For a column whose position in its policy will change.
  Policy& changing(ColumnId column);
  void insert_into(Partition& partition, ColumnId column, std::uint64_t stamp);
  Partition& own_partition(SaltId salt);
  Partition& add_partition(SaltId salt, bool is_shared);
  void drop_partition(Partition& partition);
  void give_partition(SaltId salt);
  void leave_partition(SaltId salt);
  IndexedHeap<Partition, ByStamp>& heap_of(const Partition& partition) noexcept {
    return heaps_[static_cast<std::size_t>(partition.standing)];
  }
  Standing standing_of(const Partition& partition) const noexcept;
  void note_standing(SaltId salt);
  void set_standing(Partition& partition);
  void note_changed(Partition& partition);
  /// Asks changed partitions for their coldest column.
  void refresh();
  /// The first of its heap. Null: none of them has a victim.
  Partition* coldest(Standing standing) noexcept;
  ColumnId choose(Partition& partition, const RoomWish& wish);

  EngineState& state_;
  ColumnTable& columns_;
  const std::uint64_t capacity_bytes_;
  const PolicyKind* kind_;
  const std::shared_ptr<ColumnRecords> records_ = make_column_records();  ///< Of all partitions.
  bool is_noop_ = false;
  std::uint64_t bytes_ = 0;
  std::uint64_t columns_in_ = 0;
  std::vector<std::unique_ptr<Partition>> partitions_;  ///< By number; the first is shared.
  std::vector<std::uint32_t> numbers_free_;             ///< Of partitions.
  std::vector<std::uint32_t> stale_;
  std::array<IndexedHeap<Partition, ByStamp>, kStandings> heaps_;  ///< By Standing.
  std::vector<Salt> salts_;                                        ///< By SaltId.
};

}  // namespace larder::cache
