#include "larder/cache/writes.h"

#include <algorithm>
#include <iterator>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {

bool Writes::is_asked_well(const WriteSpec& spec, const Owner* owner) const noexcept {
  if (owner == nullptr || !state_.layouts.is_known(spec.space) || spec.chunks.empty()) return false;
  if (state_.layouts.current(spec.space) != owner->layout) return false;
  if (spec.chunks.size() != spec.range.size()) return false;
  if (!spec.bytes.empty() && spec.bytes.size() != spec.chunks.size()) return false;
  return spec.rank < state_.layouts[owner->layout].spec.world_size;
}

std::uint32_t Writes::find(const WriteSpec& spec) const {
  const Owner* const owner = owners_.find(spec.owner);
  if (owner == nullptr || spec.chunks.empty()) return kNone;
  std::uint32_t found = kNone;
  for (const std::uint32_t number : owner->writes) {
    const Write& write = writes_[number];
    if (write.space != spec.space || write.rank != spec.rank ||
        write.range.begin != spec.range.begin || write.chunks.back() != spec.chunks.back()) {
      continue;
    }
    found = number;
    if (!write.is_quarantined) break;
  }
  return found;
}

std::optional<WriteId> Writes::open(const WriteSpec& spec) const {
  const std::uint32_t number = find(spec);
  if (number == kNone) return std::nullopt;
  return WriteId{writes_.handle(number)};
}

std::optional<WriteId> Writes::begin(const WriteSpec& spec, std::vector<CellSlot>& out) {
  out.clear();
  Owner* const owner = owners_.find_alive(spec.owner);
  if (!is_asked_well(spec, owner)) return std::nullopt;
  const std::uint32_t before = find(spec);
  // After its time-out a new one is available (E16).
  if (before != kNone && !writes_[before].is_quarantined) return std::nullopt;
  const std::uint64_t quarantine_max = cells_.share_of_l1(state_.options.quarantine_share);
  if (owner->quarantined_bytes > quarantine_max && !is_broken(CacheRule::kQuarantineLimit)) {
    ++state_.totals.writes_refused;
    return std::nullopt;
  }

  const std::uint32_t number = writes_.acquire();
  Write& write = writes_[number];
  write.owner = spec.owner;
  write.space = spec.space;
  write.layout = owner->layout;
  write.rank = spec.rank;
  write.range = spec.range;
  write.pieces.clear();
  write.is_quarantined = false;
  write.is_ended = false;
  write.is_void = false;
  write.begun_ns = state_.now_ns;
  const Reserved reserved = take_slots(number, spec);
  if (write.pieces.empty()) {
    writes_.release(number);
    if (reserved != Reserved::kYes) ++state_.totals.writes_refused;
    return std::nullopt;
  }
  if (reserved != Reserved::kYes) ++state_.totals.writes_cut;

  // A commit cannot say which of two it means: the later one. The first keeps its slots, and is
  // never published.
  if (before != kNone) writes_[before].is_ended = true;
  ++state_.totals.writes;
  write.chunks.assign(spec.chunks.begin(), spec.chunks.end());
  owner->writes.push_back(number);
  write.timer.kind = TimerKind::kWrite;
  write.timer.id = number;
  state_.timers.arm(write.timer, state_.now_ns + state_.options.write_ttl_ns);
  const Layout& layout = state_.layouts[write.layout];
  for (const Piece& piece : write.pieces) {
    out.push_back({piece.chunk, static_cast<std::uint16_t>(layout.group_of(piece.row)),
                   cells_.slots()[piece.slot].ref});
  }
  return WriteId{writes_.handle(number)};
}

/// The longest leading run that fits (E13).
Reserved Writes::take_slots(std::uint32_t number, const WriteSpec& spec) {
  Write& write = writes_[number];
  // A call may evict as much as it stores: the work is in proportion to the request. Were it
  // bounded by the turn alone, a long range could never be stored whole.
  const std::uint64_t left = cells_.evictions_left();
  cells_.set_evictions_left(left + spec.chunks.size() * state_.layouts[write.layout].groups());
  if (spec.rank == 0) touch_behind_hole(spec);
  Reserved result = Reserved::kYes;
  for (std::uint32_t chunk = 0; chunk < spec.chunks.size(); ++chunk) {
    const std::size_t before = write.pieces.size();
    const Reserved reserved = take_chunk(write, spec, chunk);
    if (reserved == Reserved::kYes) continue;
    result = reserved;
    for (std::size_t i = before; i < write.pieces.size(); ++i) {
      cells_.discard_writing(write.pieces[i].slot);
    }
    write.pieces.resize(before);
    if (!is_broken(CacheRule::kLeadingRun)) break;
  }
  cells_.set_evictions_left(std::min(left, cells_.evictions_left()));
  return result;
}

/// Chunks that are there behind the first absent one are used by this request, but no lookup has
/// touched them: its hit ended before. Without this they would evict their own heads for room. One
/// rank speaks for all, so that a request is one use.
void Writes::touch_behind_hole(const WriteSpec& spec) {
  std::size_t first = 0;
  while (first < spec.chunks.size() && cells_.find(spec.space, spec.chunks[first]) != kNone) {
    ++first;
  }
  cells_.begin_chain(spec.space, {.chunks = spec.range.end,
                                  .resident = spec.range.begin + static_cast<std::uint32_t>(first),
                                  .end = spec.range.end});
  for (std::size_t chunk = spec.chunks.size(); chunk-- > first;) {
    const ColumnId column = cells_.find(spec.space, spec.chunks[chunk]);
    if (column != kNone) cells_.touch(column);
  }
}

Reserved Writes::take_chunk(Write& write, const WriteSpec& spec, std::uint32_t chunk) {
  const Layout& layout = state_.layouts[write.layout];
  ColumnId column = cells_.find(spec.space, spec.chunks[chunk]);
  for (std::uint32_t group = 0; group < layout.groups(); ++group) {
    const std::size_t bit = std::size_t{chunk} * layout.groups() + group;
    if (spec.skip != nullptr && spec.skip->has(bit) && !is_broken(CacheRule::kSkip)) continue;
    const Row row = layout.row_of(spec.rank, group);
    if (column != kNone) {
      const Cell& cell = cells_.columns()[column].cells[row];
      if (cell.state == CellState::kResident) continue;
      if (cell.writing != kNone && !is_broken(CacheRule::kOneWriter)) continue;  // E5
    } else {
      column = cells_.find_or_make(spec.space, spec.chunks[chunk]);
    }
    const std::uint64_t fixed = layout.spec.groups[group].cell_bytes;
    const std::uint64_t bytes = fixed != 0 || spec.bytes.empty() ? fixed : spec.bytes[chunk];
    Piece piece{.chunk = chunk, .row = row};
    const Reserved reserved = cells_.reserve(column, row, bytes, SlotState::kWriting, piece.slot);
    if (reserved != Reserved::kYes) return reserved;
    write.pieces.push_back(piece);
  }
  return Reserved::kYes;
}

bool Writes::end(WriteId id, WriteEnd how) {
  Write* const write = writes_.find(static_cast<std::uint64_t>(id));
  if (write == nullptr) {
    if (how == WriteEnd::kPublish) ++state_.totals.commits_refused;
    return false;
  }
  const bool is_late = write->is_quarantined && !write->is_ended;
  // A layout that was replaced meanwhile: the bytes have another shape.
  const bool is_other_layout = state_.layouts.current(write->space) != write->layout;
  const bool is_ended = write->is_ended && !is_broken(CacheRule::kNeverPublishOfEnded);
  const bool is_refused = how == WriteEnd::kDiscard || is_ended || is_other_layout ||
                          (is_late && is_broken(CacheRule::kLateCommit));
  leave_quarantine(*write);
  if (is_refused || (write->is_void && !is_broken(CacheRule::kClearVoidsWrites))) {
    discard(*write);
  } else {
    if (is_late) ++state_.totals.commits_late;
    publish(*write);
  }
  const bool is_refused_commit = is_refused && how == WriteEnd::kPublish;
  if (is_refused_commit) ++state_.totals.commits_refused;
  forget(static_cast<std::uint32_t>(static_cast<std::uint64_t>(id)));
  return !is_refused;
}

/// From the last chunk to the first, so that heads are used last (E20).
void Writes::publish(Write& write) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : write.pieces) bytes += cells_.slots()[piece.slot].ref.bytes;
  state_.count_rate(state_.totals.write_rate, bytes, write.begun_ns);
  const bool is_reversed = !is_broken(CacheRule::kTailsFirst);
  cells_.begin_chain(
      write.space,
      {.chunks = write.range.end, .resident = write.range.begin, .end = write.range.end});
  for (std::size_t i = 0; i < write.pieces.size(); ++i) {
    Piece& piece = write.pieces[is_reversed ? write.pieces.size() - 1 - i : i];
    if (piece.is_void) {
      discard(write, piece);
      piece.slot = kNone;
      ++state_.totals.cells_dropped;
      continue;
    }
    const bool is_stored = write.is_quarantined
                               ? cells_.publish_quarantined(piece.slot, write.space,
                                                            write.chunks[piece.chunk], piece.row)
                               : cells_.publish_writing(piece.slot);
    ++(is_stored ? state_.totals.cells_stored : state_.totals.cells_dropped);
    if (!is_stored) piece.slot = kNone;
  }
  if (watch_ == nullptr) return;
  for (const Piece& piece : write.pieces) {
    if (piece.slot == kNone) continue;
    watch_->on_stored(cells_.slots()[piece.slot].column, piece.row);
  }
}

void Writes::discard(const Write& write, const Piece& piece) {
  if (write.is_quarantined) {
    cells_.discard_quarantined(piece.slot);
  } else {
    cells_.discard_writing(piece.slot);
  }
}

void Writes::discard(Write& write) {
  for (const Piece& piece : write.pieces) discard(write, piece);
  write.pieces.clear();
}

void Writes::quarantine(Write& write) {
  if (write.is_quarantined) return;
  write.is_quarantined = true;
  Owner& owner = *owners_.find(write.owner);
  for (const Piece& piece : write.pieces) {
    cells_.quarantine(piece.slot);
    owner.quarantined_bytes += cells_.slots()[piece.slot].taken;
  }
}

/// The slots will be freed, or published.
void Writes::leave_quarantine(Write& write) noexcept {
  if (!write.is_quarantined) return;
  Owner& owner = *owners_.find(write.owner);
  for (const Piece& piece : write.pieces) {
    owner.quarantined_bytes -= cells_.slots()[piece.slot].taken;
  }
}

void Writes::forget(std::uint32_t number) {
  Write& write = writes_[number];
  state_.timers.disarm(write.timer);
  std::erase(owners_.find(write.owner)->writes, number);
  writes_.release(number);
}

void Writes::on_timer(std::uint32_t number) {
  ++state_.totals.writes_expired;
  if (is_broken(CacheRule::kQuarantine)) {
    discard(writes_[number]);
    return forget(number);
  }
  quarantine(writes_[number]);
}

void Writes::on_owner_end(std::uint32_t owner, bool is_dead) {
  const std::vector<std::uint32_t> numbers = owners_[owner].writes;
  for (const std::uint32_t number : numbers) {
    Write& write = writes_[number];
    state_.timers.disarm(write.timer);
    write.is_ended = true;
    if (!is_dead) {
      quarantine(write);
      continue;
    }
    leave_quarantine(write);
    discard(write);
    forget(number);
  }
}

void Writes::void_all(std::optional<SpaceId> space) {
  for (std::uint32_t number = 0; number < writes_.end(); ++number) {
    if (!writes_.is_used(number)) continue;
    if (!space || writes_[number].space == *space) writes_[number].is_void = true;
  }
}

void Writes::void_chunks(SpaceId space, std::span<const ChunkHash> chunks) {
  if (is_broken(CacheRule::kRemoveVoidsWrites)) return;
  for (std::uint32_t number = 0; number < writes_.end(); ++number) {
    if (!writes_.is_used(number) || writes_[number].space != space) continue;
    Write& write = writes_[number];
    for (Piece& piece : write.pieces) {
      if (std::ranges::find(chunks, write.chunks[piece.chunk]) != chunks.end()) {
        piece.is_void = true;
      }
    }
  }
}

void Writes::check_invariants() const {
  std::vector<std::uint64_t> quarantined(owners_.end());
  std::uint64_t slots = 0;
  for (std::uint32_t number = 0; number < writes_.end(); ++number) {
    if (!writes_.is_used(number)) continue;
    const Write& write = writes_[number];
    LARDER_CHECK(owners_.find(write.owner) != nullptr);
    for (const Piece& piece : write.pieces) {
      LARDER_CHECK(cells_.slots().is_used(piece.slot));
      const Slot& slot = cells_.slots()[piece.slot];
      LARDER_CHECK(slot.state ==
                   (write.is_quarantined ? SlotState::kQuarantine : SlotState::kWriting));
      ++slots;
      if (write.is_quarantined) quarantined[Owners::number_of(write.owner)] += slot.taken;
    }
  }
  for (std::uint32_t owner = 0; owner < owners_.end(); ++owner) {
    if (!owners_.is_used(owner)) continue;
    LARDER_CHECK(owners_[owner].quarantined_bytes == quarantined[owner]);
  }
  for (SlotId id = 0; id < cells_.slots().end(); ++id) {
    if (!cells_.slots().is_used(id)) continue;
    const SlotState state = cells_.slots()[id].state;
    if (state == SlotState::kWriting || state == SlotState::kQuarantine) --slots;
  }
  LARDER_CHECK(slots == 0);
}

}  // namespace larder::cache
