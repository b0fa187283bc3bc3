#pragma once

#include <cstdint>

#include "larder/cache/column_table.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/recent_set.h"
#include "larder/cache/room.h"
#include "larder/cache/slot_table.h"

namespace larder::cache {

/// Hears when a cell that was loading is not loading any more.
class LoadWatch {
 public:
  virtual ~LoadWatch() = default;
  /// `slot` was the cell's; it may be free by now. Must not call back into Cells.
  virtual void on_load_end(SlotId slot, bool is_resident) noexcept = 0;
};

/// The result of reserving one slot.
enum class Reserved : std::uint8_t {
  kYes = 0,
  kNoRoom,  ///< No column may be evicted, or eviction does not help.
  kLater,   ///< This turn has evicted enough (E19); the next one may find room.
};

/// Cells and columns change here and nowhere else: it keeps slots, columns, room and the sums in
/// step.
///
/// A caller changes any number of cells of a column and then calls settle() for it, which hides or
/// shows it, cools it (E20), and removes it when it is empty. Calls that say "settles" do that
/// themselves.
/// Pins of a column: its cells with locks; its slots that are written or loaded; claims; I/O; its
///   pledge.
/// Invariants: I2 a cell is resident in one slot, and that slot knows the cell. I5, I7 locks are of
///   resident cells. I9 a column that is not kept has a pin or is cold.
/// Threads: the engine's. Cost: O(1) for a cell, O(rows) for a column; only slots and columns are
///   allocated.
class Cells {
 public:
  Cells(EngineState& state, SlotTable& slots, ColumnTable& columns, Room& room);
  void set_watch(LoadWatch* watch) noexcept { watch_ = watch; }

  // ---- Finding.
  /// kNone: there is none, or only one of another layout than the space's current one (E4).
  ColumnId find(SpaceId space, const ChunkHash& hash) const noexcept;
  /// A column of another layout is removed first, whatever holds it.
  ColumnId find_or_make(SpaceId space, const ChunkHash& hash);
  bool has_other_layout(SpaceId space, const ChunkHash& hash) const noexcept;
  const Layout& layout_of(const Column& column) const noexcept {
    return state_.layouts[column.layout];
  }

  // ---- Slots of cells that are to come. Each of these settles.
  /// Evicts as far as the turn allows. `as` is kWriting or kLoading; the cell must be free for it.
  /// `may_use_held`: also the room that hold() keeps.
  Reserved reserve(ColumnId column, Row row, std::uint64_t bytes, SlotState as, SlotId& slot,
                   bool may_use_held = false);
  /// Evicts until so many bytes are free beside the held ones, as far as the turn allows.
  Reserved make_room(std::uint64_t bytes, const RoomWish& wish, bool may_use_held);
  /// Evicts the bytes of salts above their limits (E22), and ahead of need (E19), as far as the
  /// turn allows. True: there is more to evict.
  bool trim();
  /// Keeps so many free bytes for the head of the admission queue (E25).
  void hold(std::uint64_t bytes) noexcept { held_bytes_ = bytes; }
  std::uint64_t held_bytes() const noexcept { return held_bytes_; }
  /// True: published. False: the cell is resident already, or was removed meanwhile.
  bool publish_writing(SlotId slot);
  void discard_writing(SlotId slot);
  /// Another writer may come; the slot waits for its own (E16).
  void quarantine(SlotId slot);
  void discard_quarantined(SlotId slot) noexcept;
  bool publish_quarantined(SlotId slot, SpaceId space, const ChunkHash& hash, Row row);
  /// A slot in kLoading: one that lost its cell is an orphan, and only its I/O ends.
  void publish_loading(SlotId slot);
  void discard_loading(SlotId slot);
  /// Gives up the load of a cell whose I/O runs on: the slot becomes an orphan. Settles.
  void abandon_loading(ColumnId column, Row row);
  /// Counts events that may admit a waiting lookup: freed slots, columns that lost their pins.
  std::uint64_t openings() const noexcept { return openings_; }

  // ---- Pins.
  void lock(ColumnId column, Row row, std::uint32_t shares) noexcept;    ///< Does not settle.
  void unlock(ColumnId column, Row row, std::uint32_t shares) noexcept;  ///< Does not settle.
  void claim(ColumnId column, Row row) noexcept;                         ///< Does not settle.
  void unclaim(SlotId slot);                                             ///< Settles.
  void add_io(SlotId slot) noexcept;                                     ///< Does not settle.
  void drop_io(SlotId slot);                                             ///< Settles.
  /// E41. The column is complete and has none. False: the budget has no room for it. Settles.
  bool pledge(ColumnId column);
  void unpledge(ColumnId column);  ///< Settles.
  void settle(ColumnId column) { settle(column, Removal::kDeleted); }

  // ---- Use.
  void touch(ColumnId column);
  /// The uses and the new columns of this space that follow are one request's (E21).
  void begin_chain(SpaceId space, const ChainUse& chain) {
    room_.begin_chain(state_.layouts.salt(space), chain);
  }
  /// For the statistics: a lookup or a get has used it.
  void note_use(ColumnId column) noexcept;
  /// E20 does not cool it any more. The column has a pin.
  void keep(ColumnId column) noexcept { columns_[column].is_kept = true; }
  void set_wants(ColumnId column, Row row, TierMask wants) noexcept;  ///< Does not settle.
  /// The column leaves as soon as no tier wants it and it has no pin (`skip_l1`, E34).
  void drain(ColumnId column) noexcept { columns_[column].is_draining = true; }

  // ---- Removal.
  /// Takes the column out for room. It must have no pins.
  void evict(ColumnId column);
  /// A resident cell without locks. Settles.
  void drop_cell(ColumnId column, Row row);
  /// Its resident cells, without locked ones unless `force` (E36). Settles.
  ClearResult clear(ColumnId column, bool force);
  /// For a column that a clear has kept for its locks: no tier gets its cells any more, no lookup
  /// finds them, and each goes with its last lock. Loads into it are given up. Cells written to it
  /// from now on are ordinary ones. Settles.
  void leave_soon(ColumnId column);
  /// All of it, locked cells included. Claimed slots and those of L2 batches become orphans, and a
  /// reservation finds its slots without a cell. Settles.
  void remove(ColumnId column);

  // ---- Bounds and sums.
  void begin_turn() noexcept { cells_left_ = state_.options.evict_cells_max; }
  /// Cells that may still be evicted in this turn.
  std::uint64_t evictions_left() const noexcept { return cells_left_; }
  void set_evictions_left(std::uint64_t cells) noexcept { cells_left_ = cells; }
  bool is_spent() const noexcept { return cells_left_ == 0; }
  /// Whole bytes of a share of the arena.
  std::uint64_t share_of_l1(double share) const noexcept;
  std::uint64_t locked_bytes() const noexcept { return locked_bytes_; }
  std::uint64_t pledged_bytes() const noexcept { return pledged_bytes_; }
  std::uint64_t columns_pledged() const noexcept { return columns_pledged_; }
  std::uint64_t cells_wanted() const noexcept { return cells_wanted_; }
  std::uint64_t wanted_bytes() const noexcept { return wanted_bytes_; }
  std::uint64_t bytes_of(const Cell& cell) const noexcept { return cell.grains * grain_bytes_; }
  bool was_evicted(SpaceId space, const ChunkHash& hash) const noexcept;

  ColumnTable& columns() noexcept { return columns_; }
  const ColumnTable& columns() const noexcept { return columns_; }
  SlotTable& slots() noexcept { return slots_; }
  const SlotTable& slots() const noexcept { return slots_; }
  Room& room() noexcept { return room_; }

  void check_invariants() const;
  /// Reads and gets together hold so many claims (I3).
  void check_claims(std::uint64_t claims) const;

 private:
  bool trim_above_limits();
  /// It is no victim.
  bool is_protected(const Column& column) const noexcept {
    return column.pins > 0 || (state_.options.keeps_wanted && column.wanted > 0);
  }
  SaltId salt_of(const Column& column) const noexcept { return state_.layouts.salt(column.space); }
  void make_resident(ColumnId column, Row row, SlotId slot, bool is_loaded);
  /// The cell's slot goes, and with it the cell; locks must be 0. Does not settle.
  void cut_off(Column& column, Row row);
  void settle(ColumnId column, Removal why);
  void leave_writing(SlotId slot) noexcept;
  void end_loading(Column& column, Row row, bool is_resident) noexcept;
  void drop_leaving(Column& column);
  void void_locks(Column& column) noexcept;
  void end_pledge(Column& column) noexcept;
  void count_lost(TierMask wants) noexcept;
  void check_column(ColumnId column) const;

  EngineState& state_;
  SlotTable& slots_;
  ColumnTable& columns_;
  Room& room_;
  LoadWatch* watch_ = nullptr;
  RecentSet evicted_;
  const std::uint64_t grain_bytes_;
  std::uint64_t locked_bytes_ = 0;
  std::uint64_t pledged_bytes_ = 0;
  std::uint64_t columns_pledged_ = 0;
  std::uint64_t cells_wanted_ = 0;
  std::uint64_t wanted_bytes_ = 0;
  std::uint64_t held_bytes_ = 0;
  std::uint64_t openings_ = 0;
  std::uint64_t cells_left_ = 0;  ///< Cells that this turn may still evict.
  bool is_trimming_ = false;      ///< The high mark was passed, and the low one is not reached.
};

}  // namespace larder::cache
