// The invariants of cells, slots and columns, checked cell by cell.
#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"
#include "larder/cache/cells.h"

namespace larder::cache {

void Cells::check_column(ColumnId id) const {
  const Column& column = columns_[id];
  std::uint64_t pins = column.is_pledged && !is_broken(CacheRule::kPledgePins) ? 1 : 0;
  LARDER_CHECK(!column.is_pledged || column.is_complete());
  std::uint64_t bytes = 0;
  std::uint32_t resident = 0;
  std::uint32_t wanted = 0;
  for (Row row = 0; row < column.rows; ++row) {
    const Cell& cell = column.cells[row];
    if (cell.writing != kNone) {
      const Slot& slot = slots_[cell.writing];
      LARDER_CHECK(slot.state == SlotState::kWriting && slot.column == id && slot.row == row);
      LARDER_CHECK(cell.state != CellState::kResident || cell.slot != cell.writing);
      ++pins;
    }
    LARDER_CHECK(cell.locks == 0 || cell.state == CellState::kResident);
    LARDER_CHECK(cell.wants == 0 || cell.state == CellState::kResident);
    LARDER_CHECK((cell.slot == kNone) == (cell.state == CellState::kAbsent));
    if (cell.slot == kNone) continue;
    const Slot& slot = slots_[cell.slot];
    LARDER_CHECK(slot.column == id && slot.row == row);
    const bool is_resident = cell.state == CellState::kResident;
    LARDER_CHECK(slot.state == (is_resident ? SlotState::kResident : SlotState::kLoading));
    pins += slot.claims + slot.io + (cell.locks > 0 ? 1 : 0) + (is_resident ? 0 : 1);
    wanted += cell.wants != 0 ? 1 : 0;
    if (!is_resident) continue;
    ++resident;
    bytes += slot.taken;
    LARDER_CHECK(bytes_of(cell) == slot.taken);
  }
  LARDER_CHECK(pins == column.pins && resident == column.resident && wanted == column.wanted);
  LARDER_CHECK(bytes == column.resident_bytes);
  LARDER_CHECK(resident > 0 || pins > 0);
  LARDER_CHECK(column.partition == kNone || column.known_bytes == bytes);
  LARDER_CHECK(column.is_hidden == (column.partition != kNone && is_protected(column)));
  LARDER_CHECK(resident == 0 || column.is_kept || is_protected(column) ||
               column.touched == 0);  // I9
}

void Cells::check_invariants() const {
  slots_.check_invariants();
  slots_.arena().check_invariants();
  columns_.check_invariants();
  room_.check_invariants();
  std::uint64_t locked = 0;
  std::uint64_t pledged_bytes = 0;
  std::uint64_t pledged = 0;
  std::uint64_t wanted = 0;
  std::uint64_t wanted_bytes = 0;
  std::uint64_t held = 0;  // Slots that cells hold.
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (!columns_.is_used(id)) continue;
    check_column(id);
    if (columns_[id].is_pledged) {
      ++pledged;
      pledged_bytes += columns_[id].resident_bytes;
    }
    for (const Cell& cell : columns_[id].all()) {
      if (cell.locks > 0) locked += bytes_of(cell);
      wanted += cell.wants != 0 ? 1 : 0;
      wanted_bytes += cell.wants != 0 ? bytes_of(cell) : 0;
      held += (cell.slot != kNone ? 1 : 0) + (cell.writing != kNone ? 1 : 0);
    }
  }
  LARDER_CHECK(locked == locked_bytes_ && wanted == cells_wanted_);
  LARDER_CHECK(pledged == columns_pledged_ && pledged_bytes == pledged_bytes_);
  LARDER_CHECK(wanted_bytes == wanted_bytes_);
  std::uint64_t of_cells = 0;
  for (SlotId id = 0; id < slots_.end(); ++id) {
    if (!slots_.is_used(id)) continue;
    const Slot& slot = slots_[id];
    const bool is_cells = slot.state == SlotState::kResident || slot.state == SlotState::kLoading ||
                          (slot.state == SlotState::kWriting && slot.column != kNone);
    of_cells += is_cells ? 1 : 0;
  }
  LARDER_CHECK(held == of_cells);  // I2
}

void Cells::check_claims(std::uint64_t claims) const {
  std::uint64_t found = 0;
  for (SlotId id = 0; id < slots_.end(); ++id) {
    if (slots_.is_used(id)) found += slots_[id].claims;
  }
  LARDER_CHECK(found == claims);
}

}  // namespace larder::cache
