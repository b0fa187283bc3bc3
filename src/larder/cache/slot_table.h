#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "larder/cache/arena/arena.h"
#include "larder/cache/ids.h"
#include "larder/cache/slab.h"

namespace larder::cache {

/// E1. The present state of a piece of the arena. slot_table.cc has the table of legal edges, which
/// docs/architecture.md has from slot_table_markdown().
enum class SlotState : std::uint8_t {
  kFree = 0,    ///< Back in the arena; the number may be reused.
  kWriting,     ///< For an open reservation: a worker or a copy fills it, and no reader sees it.
  kLoading,     ///< An L2 batch fills it; it belongs to a cell that waits for it.
  kResident,    ///< Holds the bytes of a cell.
  kOrphan,      ///< Belongs to no cell any more, and is still claimed or in an L2 batch.
  kQuarantine,  ///< Its reservation has expired, and its writer may still write.
};
inline constexpr std::size_t kSlotStates = 6;

std::string_view name_of(SlotState state) noexcept;
bool is_legal(SlotState from, SlotState to) noexcept;
/// The edges as the table in docs/architecture.md.
std::string slot_table_markdown();

/// A piece of the arena.
struct Slot {
  SlotRef ref;
  std::uint64_t taken = 0;   ///< Bytes that the arena took for it, in which room is counted.
  ColumnId column = kNone;   ///< Whose cell it holds or will hold.
  std::uint32_t claims = 0;  ///< Reads under way.
  std::uint16_t io = 0;      ///< L2 batches under way.
  Row row = 0;
  SlotState state = SlotState::kFree;

  bool is_pinned() const noexcept { return claims > 0 || io > 0; }
};

/// All slots, their states and their pins (E1, E2).
///
/// Meaning: locks protect cells and live in Cell; claims and I/O protect memory and live here.
/// Ownership: allocates from the arena in take() and frees in the edge to kFree.
/// Invariants: every change of state is an edge of the table. A slot with a claim or I/O is never
///   freed (I3): when it loses its cell it becomes an orphan, and the last unpin frees it. The sums
///   by state equal the sums over the slots (I1).
/// Threads: the engine's. Cost: O(1).
class SlotTable {
 public:
  explicit SlotTable(Arena& arena) : arena_(arena) {}

  /// Nothing if the arena has no contiguous room; the caller evicts and asks again.
  std::optional<SlotId> take(std::uint64_t bytes, SlotState as, ColumnId column, Row row);
  /// Any edge of the table except those to kFree and kOrphan; see cut_off().
  void move(SlotId slot, SlotState to) noexcept;
  /// Its cell was removed while the slot is written; it has no column from here on.
  void disown(SlotId slot) noexcept { slots_[slot].column = kNone; }
  /// A late commit gives it a cell again.
  void adopt(SlotId slot, ColumnId column, Row row) noexcept {
    slots_[slot].column = column;
    slots_[slot].row = row;
  }
  /// Ends the slot for its cell: it is freed, or becomes an orphan while it is pinned.
  void cut_off(SlotId slot) noexcept;

  void claim(SlotId slot) noexcept;
  void unclaim(SlotId slot) noexcept;
  void add_io(SlotId slot) noexcept;
  void drop_io(SlotId slot) noexcept;

  const Slot& operator[](SlotId slot) const noexcept { return slots_[slot]; }
  bool is_used(SlotId slot) const noexcept { return slots_.is_used(slot); }
  std::uint32_t size() const noexcept { return slots_.size(); }
  std::uint32_t end() const noexcept { return slots_.end(); }

  /// Bytes that the arena took for slots in this state.
  std::uint64_t bytes_in(SlotState state) const noexcept {
    return bytes_[static_cast<std::size_t>(state)];
  }
  const Arena& arena() const noexcept { return arena_; }

  /// I1, I3 and the sums. Aborts where one does not hold. O(slots).
  void check_invariants() const;

 private:
  void change(Slot& slot, SlotState to) noexcept;
  void free(SlotId slot) noexcept;

  Arena& arena_;
  Slab<Slot> slots_;
  std::array<std::uint64_t, kSlotStates> bytes_{};
};

}  // namespace larder::cache
