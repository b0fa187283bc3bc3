#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "larder/cache/column_table.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache {

/// For what room is made.
struct RoomWish {
  SaltId salt{};
  LayoutId layout{};
  std::uint64_t taken = 0;  ///< Bytes of the arena.
};

/// Which column goes next (E18 to E22). It chooses; Cells evicts.
///
/// Partitions: columns of all salts are ordered by one Policy, those of a salt with a quota by one
///   of their own; with a policy that is partitioned by salt, every salt has its own.
/// Quotas: a salt's bytes are those of its slots that are written, loading or resident. Above its
///   limit it loses its own columns; up to its guarantee it loses none to others.
/// Choice: of the partitions that may lose one, the one whose coldest column was used longest ago;
///   within it the coldest of the wish's own size class that no connector wants, among the first
///   kCandidates.
/// Invariant: a column with a resident cell is in the policy of its partition from the first time
/// on
///   that it has no pins, and is hidden there while it has some.
/// Threads: the engine's. Cost: victim() is O(partitions), the rest O(1) and the policy's own.
class Room {
 public:
  static constexpr std::size_t kCandidates = 8;

  Room(EngineState& state, ColumnTable& columns, std::uint64_t capacity_bytes);

  // ---- Columns. Their use is numbered here.
  void insert(ColumnId column);
  void resize(ColumnId column);
  void touch(ColumnId column);
  void hide(ColumnId column);
  void show(ColumnId column);
  void cool(ColumnId column);
  void erase(ColumnId column, Removal why);
  /// E20: what is not kept is freed at once where the policy evicts nothing.
  bool frees_at_once() const noexcept { return is_noop_; }

  // ---- Bytes by salt.
  void charge(SaltId salt, std::uint64_t bytes);
  void discharge(SaltId salt, std::uint64_t bytes) noexcept;
  bool is_within_limit(SaltId salt, std::uint64_t more) const noexcept;
  std::uint64_t bytes_of(SaltId salt) const noexcept;
  const Quota& quota(SaltId salt) const noexcept;
  /// Walks all columns where the salt gets a partition of its own.
  void set_quota(SaltId salt, const Quota& quota);

  // ---- Victims.
  /// kNone: no column may go.
  ColumnId victim(const RoomWish& wish);
  /// The salt is above its limit: only its own columns help.
  ColumnId own_victim(const RoomWish& wish);

  /// Policies and columns agree, and so do the sums. Aborts otherwise. O(columns).
  void check_invariants() const;

 private:
  struct Partition {
    std::unique_ptr<Policy> policy;
    SaltId salt{};
    bool is_shared = false;  ///< By the salts without one of their own.
  };
  struct Salt {
    Quota quota;
    std::uint64_t bytes = 0;
    std::uint32_t partition = 0;
  };

  Salt& salt_of(SaltId salt);
  Policy& policy_of(ColumnId column) noexcept {
    return *partitions_[columns_[column].partition].policy;
  }
  std::uint32_t add_partition(SaltId salt, bool is_shared);
  void give_partition(SaltId salt);
  bool is_protected(const Partition& partition, SaltId from) const noexcept;
  bool is_above_limit(const Partition& partition) const noexcept;
  ColumnId choose(Partition& partition, const RoomWish& wish);
  template <class May>
  Partition* coldest_partition(May&& may);

  EngineState& state_;
  ColumnTable& columns_;
  const std::uint64_t capacity_bytes_;
  const PolicyKind* kind_;
  const std::shared_ptr<ColumnRecords> records_ = make_column_records();  ///< Of all partitions.
  bool is_noop_ = false;
  std::vector<Partition> partitions_;  ///< The first is shared.
  std::vector<Salt> salts_;            ///< By SaltId.
};

}  // namespace larder::cache
