#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/cache/ids.h"
#include "larder/cache/slab.h"

namespace larder::cache {

/// E1, as the state of a cell. A cell that is being written is absent, or loading, with a slot in
/// `writing`.
enum class CellState : std::uint8_t { kAbsent = 0, kLoading, kResident };

/// One object: the KV of one chunk, one rank and one object group.
struct Cell {
  SlotId slot = kNone;       ///< The slot with its bytes: kLoading or kResident.
  SlotId writing = kNone;    ///< The slot of the one reservation that may fill it (E5).
  std::uint32_t locks = 0;   ///< Shares of all sessions (E7); only of a resident cell.
  std::uint32_t grains = 0;  ///< Bytes of the arena in a resident cell's slot.
  TierMask wants = 0;        ///< Connectors that are still to get it (E33).
  TierMask storing = 0;      ///< Of these, tiers that have it in a batch.
  CellState state = CellState::kAbsent;
  std::uint8_t store_failures = 0;  ///< Since it became resident.
  bool is_leaving = false;          ///< E36: it goes with its last lock, and no tier gets it.

  /// A lookup may count on it.
  bool is_there() const noexcept { return state == CellState::kResident && !is_leaving; }
};
static_assert(sizeof(Cell) == 24);

/// All cells of one chunk. A prefix is a run of columns; eviction takes whole columns (E18).
struct Column {
  ChunkHash hash;
  std::uint64_t touched = 0;         ///< The engine's touch sequence; 0: cold.
  std::uint64_t resident_bytes = 0;  ///< Arena bytes of its resident cells.
  std::uint64_t known_bytes = 0;     ///< Of these, those that its policy knows.
  Cell* cells = nullptr;             ///< `rows` of them.
  SpaceId space{};
  LayoutId layout{};
  std::uint32_t partition = kNone;  ///< Room's partition, while it is in a policy.
  /// Cells with locks, open reservations, loads, claims, L2 batches; and its pledge. Not a victim
  /// while not 0.
  std::uint32_t pins = 0;
  std::uint32_t hits = 0;     ///< Lookups that touched it, for `min_hits`.
  std::uint32_t epoch = 0;    ///< Grows when the column, or all of its locks, end.
  std::uint32_t made_ms = 0;  ///< When its first cell became resident, modulo 2^32 ms.
  std::uint32_t used_ms = 0;  ///< When it was used last.
  std::uint32_t told = 0;     ///< The touch interval in which the tiers last heard of it (E40).
  Row rows = 0;
  Row resident = 0;          ///< Resident cells.
  Row wanted = 0;            ///< Cells with wants.
  bool is_draining = false;  ///< `skip_l1`: its cells were given to L2.
  bool has_leaving = false;  ///< Some of its cells are leaving (E36).
  bool is_kept = false;      ///< Written, or promoted: E20 does not cool it.
  bool is_hidden = false;    ///< Its position in its policy.
  bool is_pledged = false;   ///< E41: it has a pin of the driver's own.

  bool is_complete() const noexcept { return resident == rows; }
  std::span<Cell> all() noexcept { return {cells, rows}; }
  std::span<const Cell> all() const noexcept { return {cells, rows}; }
};

/// A column as a session remembers it. Void once the column or its locks were removed, also where
/// its place has been used again.
struct ColumnRef {
  ColumnId id = kNone;
  std::uint32_t epoch = 0;
};

/// The columns and how they are found.
///
/// The index is a power-of-two table of (hash, column), probed linearly, at most half full; a look
/// at it and one at the column answer a find. Cells of one column lie together.
/// Invariant: exactly the columns of the slab are in the index, under space and hash.
/// Threads: the engine's. Cost: O(1); growing moves the index (8 bytes a column), which takes
///   milliseconds from a million columns on, so give it the expected number.
class ColumnTable {
 public:
  explicit ColumnTable(std::size_t columns_expected);

  /// kNone: there is none.
  ColumnId find(SpaceId space, const ChunkHash& hash) const noexcept;
  /// Brings the index entry of a coming find() into the cache.
  void prefetch(SpaceId space, const ChunkHash& hash) const noexcept {
    __builtin_prefetch(&index_[hash_of(space, hash) & mask_]);
  }
  /// There must be none. All cells are absent.
  ColumnId make(SpaceId space, const ChunkHash& hash, LayoutId layout, Row rows);
  /// All cells must be absent.
  void erase(ColumnId column) noexcept;

  Column& operator[](ColumnId column) noexcept { return columns_[column]; }
  const Column& operator[](ColumnId column) const noexcept { return columns_[column]; }
  ColumnRef ref(ColumnId column) const noexcept { return {column, columns_[column].epoch}; }
  bool is_current(ColumnRef ref) const noexcept {
    return ref.id != kNone && columns_[ref.id].epoch == ref.epoch;
  }
  bool is_used(ColumnId column) const noexcept { return columns_.is_used(column); }
  std::uint32_t size() const noexcept { return columns_.size(); }
  std::uint32_t end() const noexcept { return columns_.end(); }

  /// Every column is found, and nothing else. O(columns).
  void check_invariants() const;

 private:
  struct Entry {
    std::uint32_t hash = 0;
    ColumnId column = kNone;
  };
  /// Arrays of `rows` cells, in blocks, used again.
  struct CellPool {
    std::vector<std::unique_ptr<Cell[]>> blocks;
    std::vector<Cell*> free;
    std::size_t made = 0;
  };

  static std::uint32_t hash_of(SpaceId space, const ChunkHash& hash) noexcept;
  std::size_t place_of(SpaceId space, const ChunkHash& hash) const noexcept;
  void insert(Entry entry) noexcept;
  void grow();
  Cell* take_cells(Row rows);

  Slab<Column> columns_;
  std::vector<Entry> index_;
  std::size_t mask_ = 0;
  std::vector<CellPool> pools_;  ///< By number of rows.
};

}  // namespace larder::cache
