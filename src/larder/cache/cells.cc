#include "larder/cache/cells.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

std::uint64_t ghost_of(SpaceId space, const ChunkHash& hash) noexcept {
  return hash.fingerprint() + index_of(space);
}

}  // namespace

Cells::Cells(EngineState& state, SlotTable& slots, ColumnTable& columns, Room& room)
    : state_(state),
      slots_(slots),
      columns_(columns),
      room_(room),
      evicted_(state.options.ghosts_max),
      grain_bytes_(slots.arena().grain_bytes()) {}

ColumnId Cells::find(SpaceId space, const ChunkHash& hash) const noexcept {
  const ColumnId found = columns_.find(space, hash);
  if (found == kNone || columns_[found].layout == state_.layouts.current(space)) return found;
  return is_broken(CacheRule::kOtherLayoutIsMiss) ? found : kNone;
}

bool Cells::has_other_layout(SpaceId space, const ChunkHash& hash) const noexcept {
  const ColumnId found = columns_.find(space, hash);
  return found != kNone && columns_[found].layout != state_.layouts.current(space);
}

ColumnId Cells::find_or_make(SpaceId space, const ChunkHash& hash) {
  const ColumnId found = columns_.find(space, hash);
  const LayoutId layout = state_.layouts.current(space);
  if (found != kNone) {
    if (columns_[found].layout == layout) return found;
    remove(found);
  }
  return columns_.make(space, hash, layout, state_.layouts[layout].rows());
}

bool Cells::was_evicted(SpaceId space, const ChunkHash& hash) const noexcept {
  return evicted_.contains(ghost_of(space, hash));
}

// ---- Room.

Reserved Cells::make_room(std::uint64_t bytes, const RoomWish& wish, bool may_use_held) {
  const std::uint64_t wanted = bytes + (may_use_held ? 0 : held_bytes_);
  while (slots_.arena().free_bytes() < wanted) {
    if (is_spent()) return Reserved::kLater;
    const ColumnId victim = room_.victim(wish);
    if (victim == kNone) return Reserved::kNoRoom;
    evict(victim);
  }
  return Reserved::kYes;
}

std::uint64_t Cells::share_of_l1(double share) const noexcept {
  return static_cast<std::uint64_t>(share * static_cast<double>(slots_.arena().capacity_bytes()));
}

/// Cells that a tier still wants go, too: the limit may have been lowered for good.
bool Cells::trim_above_limits() {
  for (;;) {
    const ColumnId victim = room_.victim_above_limit();
    if (victim == kNone) return false;
    if (is_spent()) return true;
    evict(victim);
  }
}

bool Cells::trim() {
  if (trim_above_limits()) return true;
  if (is_broken(CacheRule::kWatermarks)) return false;
  const std::uint64_t low_bytes = share_of_l1(state_.options.low_watermark);
  if (slots_.arena().used_bytes() > share_of_l1(state_.options.high_watermark)) is_trimming_ = true;
  while (is_trimming_ && slots_.arena().used_bytes() > low_bytes) {
    if (is_spent()) return true;
    const ColumnId victim =
        room_.victim(RoomWish{.salt = SaltId{kNone}, .layout = LayoutId{kNone}});
    // Cells that a tier still wants are evicted only when room is needed.
    if (victim == kNone || columns_[victim].wanted > 0) break;
    evict(victim);
  }
  is_trimming_ = false;
  return false;
}

Reserved Cells::reserve(ColumnId id, Row row, std::uint64_t bytes, SlotState as, SlotId& slot,
                        bool may_use_held) {
  Column& column = columns_[id];
  const SaltId salt = salt_of(column);
  const RoomWish wish{salt, column.layout, slots_.arena().taken_for(bytes)};
  // The pin of the slot to come. It comes first, or the column might be its own victim.
  ++column.pins;
  settle(id);
  std::uint64_t freed = 0;
  Reserved result = Reserved::kNoRoom;
  std::optional<SlotId> taken;
  // If it does not fit alone, eviction does not help.
  const std::uint64_t most =
      std::min(slots_.arena().capacity_bytes(), room_.quota(salt).limit_bytes);
  while (wish.taken <= most) {
    ColumnId victim = kNone;
    if (!room_.is_within_limit(salt, wish.taken)) {
      victim = is_spent() ? kNone : room_.own_victim(wish);
      if (victim == kNone && !is_spent()) {
        ++state_.totals.failed_quota;
        room_.note_refused(salt);
      }
    } else {
      const std::uint64_t held = may_use_held ? 0 : held_bytes_;
      const bool has_bytes =
          slots_.arena().free_bytes() >= held && slots_.arena().free_bytes() - held >= wish.taken;
      if (has_bytes) taken = slots_.take(bytes, as, id, row);
      if (taken) break;
      if (has_bytes && freed / 4 >= wish.taken) {
        ++state_.totals.failed_fragmentation;
        break;
      }
      victim = is_spent() ? kNone : room_.victim(wish);
    }
    if (victim == kNone) {
      if (is_spent()) result = Reserved::kLater;
      break;
    }
    freed += columns_[victim].resident_bytes;
    evict(victim);
  }
  if (!taken) {
    if (result == Reserved::kNoRoom) {
      ++state_.totals.allocations_failed;
      if (as == SlotState::kLoading) ++state_.totals.load_allocations_failed;
    }
    --column.pins;
    settle(id);
    return result;
  }
  slot = *taken;
  room_.charge(salt, wish.taken);
  Cell& cell = column.cells[row];
  if (as == SlotState::kWriting) {
    LARDER_CHECK(cell.writing == kNone && cell.state != CellState::kResident);
    cell.writing = slot;
  } else {
    LARDER_CHECK(cell.state == CellState::kAbsent);
    cell.slot = slot;
    cell.state = CellState::kLoading;
  }
  return Reserved::kYes;
}

// ---- Writing.

/// Takes the slot out of its cell's `writing`. Does not settle.
void Cells::leave_writing(SlotId slot) noexcept {
  Column& column = columns_[slots_[slot].column];
  Cell& cell = column.cells[slots_[slot].row];
  LARDER_CHECK(cell.writing == slot);
  cell.writing = kNone;
  --column.pins;
}

bool Cells::publish_writing(SlotId slot) {
  const ColumnId id = slots_[slot].column;
  if (id == kNone) {
    slots_.cut_off(slot);
    return false;
  }
  leave_writing(slot);
  const Row row = slots_[slot].row;
  Column& column = columns_[id];
  const bool is_first = column.cells[row].state != CellState::kResident;
  if (is_first) {
    end_loading(column, row, true);
    make_resident(id, row, slot, false);
    column.is_draining = false;  // The owner of this cell's want was not asked yet.
    const bool was_cold = !column.is_kept && column.partition != kNone;
    column.is_kept = true;
    if (was_cold) room_.touch(id);
  } else {
    room_.discharge(salt_of(column), slots_[slot].taken);
    slots_.cut_off(slot);
  }
  settle(id);
  return is_first;
}

void Cells::discard_writing(SlotId slot) {
  const ColumnId id = slots_[slot].column;
  if (id == kNone) return slots_.cut_off(slot);
  leave_writing(slot);
  room_.discharge(salt_of(columns_[id]), slots_[slot].taken);
  slots_.cut_off(slot);
  settle(id);
}

void Cells::quarantine(SlotId slot) {
  const ColumnId id = slots_[slot].column;
  if (id != kNone) {
    leave_writing(slot);
    room_.discharge(salt_of(columns_[id]), slots_[slot].taken);
    slots_.disown(slot);
    settle(id);
  }
  slots_.move(slot, SlotState::kQuarantine);
}

void Cells::discard_quarantined(SlotId slot) noexcept {
  slots_.cut_off(slot);
}

bool Cells::publish_quarantined(SlotId slot, SpaceId space, const ChunkHash& hash, Row row) {
  const ColumnId id = find_or_make(space, hash);
  Column& column = columns_[id];
  if (column.cells[row].state == CellState::kResident) {
    slots_.cut_off(slot);
    settle(id);
    return false;
  }
  slots_.adopt(slot, id, row);
  room_.charge(salt_of(column), slots_[slot].taken);
  end_loading(column, row, true);
  make_resident(id, row, slot, false);
  column.is_draining = false;  // As above.
  column.is_kept = true;
  settle(id);
  return true;
}

// ---- Loading.

/// The cell's load, if one runs, is of no use any more: its slot becomes an orphan until the L2
/// batch ends. Does not settle.
void Cells::end_loading(Column& column, Row row, bool is_resident) noexcept {
  Cell& cell = column.cells[row];
  if (cell.state != CellState::kLoading) return;
  const SlotId slot = cell.slot;
  cell.state = CellState::kAbsent;
  cell.slot = kNone;
  column.pins -= 1 + slots_[slot].io;
  room_.discharge(salt_of(column), slots_[slot].taken);
  slots_.cut_off(slot);
  if (watch_ != nullptr) watch_->on_load_end(slot, is_resident);
}

void Cells::publish_loading(SlotId slot) {
  const ColumnId id = slots_[slot].column;
  Column& column = columns_[id];
  Cell& cell = column.cells[slots_[slot].row];
  LARDER_CHECK(cell.state == CellState::kLoading && cell.slot == slot);
  --column.pins;
  make_resident(id, slots_[slot].row, slot, true);
  if (watch_ != nullptr) watch_->on_load_end(slot, true);
  settle(id);
}

void Cells::discard_loading(SlotId slot) {
  const ColumnId id = slots_[slot].column;
  end_loading(columns_[id], slots_[slot].row, false);
  settle(id);
}

void Cells::abandon_loading(ColumnId id, Row row) {
  end_loading(columns_[id], row, false);
  settle(id);
}

void Cells::make_resident(ColumnId id, Row row, SlotId slot, bool is_loaded) {
  Column& column = columns_[id];
  Cell& cell = column.cells[row];
  slots_.move(slot, SlotState::kResident);
  cell.slot = slot;
  cell.state = CellState::kResident;
  cell.store_failures = 0;
  cell.grains = static_cast<std::uint32_t>(slots_[slot].taken / grain_bytes_);
  if (++column.resident == 1) column.made_ms = column.used_ms = state_.now_ms();
  column.resident_bytes += slots_[slot].taken;
  column.told = state_.touch_interval;
  if (state_.what_if) {
    const auto use = is_loaded ? &CapacityEstimates::use_loaded : &CapacityEstimates::use;
    (*state_.what_if.*use)(column.space, column.hash, column.resident_bytes);
  }
  if (column.is_complete()) {
    const std::uint64_t ghost = ghost_of(column.space, column.hash);
    if (const auto evicted_ms = evicted_.note_of(ghost)) {
      state_.totals.evicted_gap.record(state_.now_ms() - *evicted_ms);
      evicted_.erase(ghost);
    }
    state_.listener.on_column(ColumnEvent::kStored, column.space, column.hash);
  }
}

// ---- Pins.

void Cells::lock(ColumnId id, Row row, std::uint32_t shares) noexcept {
  Column& column = columns_[id];
  Cell& cell = column.cells[row];
  LARDER_CHECK(cell.state == CellState::kResident && shares > 0);
  if (cell.locks == 0) {
    locked_bytes_ += bytes_of(cell);
    ++column.pins;
  }
  cell.locks += shares;
}

void Cells::unlock(ColumnId id, Row row, std::uint32_t shares) noexcept {
  Column& column = columns_[id];
  Cell& cell = column.cells[row];
  LARDER_CHECK(cell.locks >= shares && shares > 0);
  cell.locks -= shares;
  if (cell.locks > 0) return;
  locked_bytes_ -= bytes_of(cell);
  --column.pins;
}

void Cells::void_locks(Column& column) noexcept {
  bool had_locks = false;
  for (Cell& cell : column.all()) {
    if (cell.locks == 0) continue;
    had_locks = true;
    state_.totals.locks_voided += cell.locks;
    locked_bytes_ -= bytes_of(cell);
    cell.locks = 0;
    --column.pins;
  }
  if (had_locks) ++column.epoch;
}

bool Cells::pledge(ColumnId id) {
  Column& column = columns_[id];
  LARDER_CHECK(column.is_complete() && !column.is_pledged);
  const std::uint64_t budget = share_of_l1(state_.options.pledge_share);
  const bool has_room =
      pledged_bytes_ <= budget && column.resident_bytes <= budget - pledged_bytes_;
  if (!has_room && !is_broken(CacheRule::kPledgeBudget)) {
    ++state_.totals.pledges_refused;
    return false;
  }
  column.is_pledged = true;
  pledged_bytes_ += column.resident_bytes;
  ++columns_pledged_;
  if (!is_broken(CacheRule::kPledgePins)) ++column.pins;
  settle(id);
  return true;
}

void Cells::unpledge(ColumnId id) {
  end_pledge(columns_[id]);
  settle(id);
}

/// While all of its cells still exist. Does not settle.
void Cells::end_pledge(Column& column) noexcept {
  LARDER_CHECK(column.is_pledged && pledged_bytes_ >= column.resident_bytes);
  column.is_pledged = false;
  pledged_bytes_ -= column.resident_bytes;
  --columns_pledged_;
  if (!is_broken(CacheRule::kPledgePins)) --column.pins;
}

void Cells::claim(ColumnId id, Row row) noexcept {
  slots_.claim(columns_[id].cells[row].slot);
  ++columns_[id].pins;
}

void Cells::unclaim(SlotId slot) {
  const ColumnId id = slots_[slot].state == SlotState::kOrphan ? kNone : slots_[slot].column;
  slots_.unclaim(slot);
  if (id == kNone) return;
  --columns_[id].pins;
  settle(id);
}

void Cells::add_io(SlotId slot) noexcept {
  slots_.add_io(slot);
  ++columns_[slots_[slot].column].pins;
}

void Cells::drop_io(SlotId slot) {
  const ColumnId id = slots_[slot].state == SlotState::kOrphan ? kNone : slots_[slot].column;
  slots_.drop_io(slot);
  if (id == kNone) return;
  --columns_[id].pins;
  settle(id);
}

/// E36: cells that have lost the lock that kept them during a clear. Does not settle.
void Cells::drop_leaving(Column& column) {
  column.has_leaving = false;
  for (Row row = 0; row < column.rows; ++row) {
    if (!column.cells[row].is_leaving) continue;
    if (column.cells[row].locks == 0) {
      cut_off(column, row);
    } else {
      column.has_leaving = true;
    }
  }
}

void Cells::settle(ColumnId id, Removal why) {
  Column& column = columns_[id];
  if (column.has_leaving) drop_leaving(column);
  if (column.resident == 0) {
    if (column.partition != kNone) room_.erase(id, why);
    column.is_kept = false;
    column.is_hidden = false;
    column.is_draining = false;
    column.has_leaving = false;
    ++openings_;
    if (column.pins == 0) columns_.erase(id);
    return;
  }
  if (column.is_draining && column.wanted == 0 && column.pins == 0) return remove(id);
  const bool is_new = column.partition == kNone;
  // It enters its policy when it loses its first pin: that was its first use, and columns that are
  // released from the last to the first enter in that order (E20).
  if (is_new && column.pins > 0 && !is_broken(CacheRule::kPinsProtectColumn)) return;
  if (is_new) {
    room_.insert(id);
    column.known_bytes = column.resident_bytes;
  } else if (column.known_bytes != column.resident_bytes) {
    room_.resize(id);
    column.known_bytes = column.resident_bytes;
  }
  const bool should_hide = is_protected(column) && !is_broken(CacheRule::kPinsProtectColumn);
  const bool has_changed = is_new || should_hide != column.is_hidden;
  if (should_hide != column.is_hidden) {
    column.is_hidden = should_hide;
    if (should_hide) {
      room_.hide(id);
    } else {
      room_.show(id);
    }
  }
  if (has_changed && !should_hide) ++openings_;
  if (column.pins > 0 || column.is_kept || is_broken(CacheRule::kCoolUnkept)) return;
  if (room_.frees_at_once()) {
    if (!should_hide) remove(id);
  } else if (column.touched != 0) {
    room_.cool(id);
  }
}

// ---- Use.

void Cells::touch(ColumnId id) {
  Column& column = columns_[id];
  // A column that is not kept stays at the cold end (I9); with a pin it will be cooled when that
  // ends.
  if (column.partition == kNone || (!column.is_kept && column.pins == 0)) return;
  room_.touch(id);
}

void Cells::note_use(ColumnId id) noexcept {
  Column& column = columns_[id];
  if (column.resident == 0) return;
  const std::uint32_t before_ms = std::exchange(column.used_ms, state_.now_ms());
  state_.totals.reuse_gap.record(column.used_ms - before_ms);
  if (state_.what_if) {
    state_.what_if->use(column.space, column.hash, column.resident_bytes);
  }
}

void Cells::set_wants(ColumnId id, Row row, TierMask wants) noexcept {
  Column& column = columns_[id];
  Cell& cell = column.cells[row];
  LARDER_CHECK(wants == 0 || cell.state == CellState::kResident);
  if (cell.wants == 0 && wants != 0) {
    ++column.wanted;
    ++cells_wanted_;
    wanted_bytes_ += bytes_of(cell);
  } else if (cell.wants != 0 && wants == 0) {
    --column.wanted;
    --cells_wanted_;
    wanted_bytes_ -= bytes_of(cell);
  }
  cell.wants = wants;
}

// ---- Removal.

void Cells::cut_off(Column& column, Row row) {
  if (column.is_pledged) end_pledge(column);  // A column that is not whole is useless.
  Cell& cell = column.cells[row];
  LARDER_CHECK(cell.state == CellState::kResident && cell.locks == 0);
  if (column.is_complete()) {
    state_.listener.on_column(ColumnEvent::kRemoved, column.space, column.hash);
  }
  const Slot& slot = slots_[cell.slot];
  column.pins -= slot.claims + slot.io;
  --column.resident;
  column.resident_bytes -= slot.taken;
  if (cell.wants != 0) {
    --column.wanted;
    --cells_wanted_;
    wanted_bytes_ -= bytes_of(cell);
  }
  room_.discharge(salt_of(column), slot.taken);
  slots_.cut_off(cell.slot);
  const SlotId writing = cell.writing;
  cell = Cell{};
  cell.writing = writing;
}

void Cells::count_lost(TierMask wants) noexcept {
  ++state_.totals.l2_store_lost;
  for (TierId tier = 0; tier < state_.totals.tiers.size(); ++tier) {
    if ((wants & bit_of(tier)) != 0) ++state_.totals.tiers[tier].store_lost;
  }
}

void Cells::evict(ColumnId id) {
  Column& column = columns_[id];
  if (is_broken(CacheRule::kPinsProtectColumn) && column.pins > 0) return remove(id);
  LARDER_CHECK(column.pins == 0);
  ++state_.totals.columns_evicted;
  state_.totals.cells_evicted += column.resident;
  state_.totals.bytes_evicted += column.resident_bytes;
  state_.totals.evicted_age.record(state_.now_ms() - column.made_ms);
  state_.totals.evicted_idle.record(state_.now_ms() - column.used_ms);
  if (!is_broken(CacheRule::kBoundedTurn)) {
    cells_left_ -= std::min<std::uint64_t>(cells_left_, column.resident);
  }
  evicted_.insert(ghost_of(column.space, column.hash), state_.now_ms());
  for (Row row = 0; row < column.rows; ++row) {
    const Cell& cell = column.cells[row];
    if (cell.state != CellState::kResident) continue;
    if (cell.wants != 0) count_lost(cell.wants);
    cut_off(column, row);
  }
  settle(id, Removal::kEvicted);
}

void Cells::drop_cell(ColumnId id, Row row) {
  cut_off(columns_[id], row);
  settle(id);
}

ClearResult Cells::clear(ColumnId id, bool force) {
  Column& column = columns_[id];
  ClearResult result{.cells = column.resident, .bytes = column.resident_bytes};
  if (state_.what_if) state_.what_if->erase_in_l1(column.space, column.hash);
  if (force) {
    remove(id);
    return result;
  }
  for (Row row = 0; row < column.rows; ++row) {
    const Cell& cell = column.cells[row];
    if (cell.state != CellState::kResident) continue;
    if (cell.locks == 0) {
      cut_off(column, row);
    } else {
      ++result.cells_locked;
    }
  }
  result.cells -= column.resident;
  result.bytes -= column.resident_bytes;
  settle(id);
  return result;
}

void Cells::leave_soon(ColumnId id) {
  if (is_broken(CacheRule::kClearAllEndsWants)) return;
  Column& column = columns_[id];
  for (Row row = 0; row < column.rows; ++row) {
    set_wants(id, row, 0);
    end_loading(column, row, false);
    if (column.cells[row].state != CellState::kResident) continue;
    column.cells[row].is_leaving = true;
    column.has_leaving = true;
  }
  settle(id);
}

void Cells::remove(ColumnId id) {
  Column& column = columns_[id];
  void_locks(column);
  for (Row row = 0; row < column.rows; ++row) {
    Cell& cell = column.cells[row];
    if (cell.writing != kNone) {
      const SlotId slot = cell.writing;
      leave_writing(slot);
      room_.discharge(salt_of(column), slots_[slot].taken);
      slots_.disown(slot);
    }
    end_loading(column, row, false);
    if (cell.state == CellState::kResident) cut_off(column, row);
  }
  LARDER_CHECK(column.pins == 0);
  settle(id);
}

}  // namespace larder::cache
