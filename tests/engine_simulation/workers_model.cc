// What workers use, and which slots they may get.
#include <algorithm>
#include <utility>

#include "tests/engine_simulation/workers.h"

namespace larder::cache::simulation {

bool Workers::is_same_range(const Writing& a, const Writing& b) noexcept {
  return a.space == b.space && a.prompt == b.prompt && a.rank == b.rank &&
         a.range.begin == b.range.begin && a.range.end == b.range.end;
}

bool Workers::is_open(const Worker& worker, const Writing& writing) const {
  return std::ranges::any_of(worker.writes, [&](const Writing& other) {
    return !other.is_expired && is_same_range(other, writing);
  });
}

std::uint64_t Workers::slot_bytes(const Writing& writing) const {
  std::uint64_t bytes = 0;
  for (const CellSlot& slot : writing.slots) bytes += world_.arena->taken_for(slot.slot.bytes);
  return bytes;
}

std::uint64_t Workers::quarantined_bytes(const Worker& worker) const {
  std::uint64_t bytes = 0;
  for (const Writing& writing : worker.writes)
    bytes += writing.is_expired ? slot_bytes(writing) : 0;
  return bytes;
}

std::uint64_t Workers::open_bytes(std::uint32_t space) const {
  std::uint64_t bytes = 0;
  for (const Worker& worker : workers_) {
    for (const Writing& writing : worker.writes) {
      const bool has_cells = !writing.is_expired && writing.removals == world_.disturbances;
      bytes += has_cells && writing.space == space ? slot_bytes(writing) : 0;
    }
  }
  return bytes;
}

std::uint64_t Workers::writing_bytes(std::uint32_t space) const {
  std::uint64_t bytes = 0;
  for (const Worker& worker : workers_) {
    for (const Writing& writing : worker.writes) {
      bytes += !writing.is_expired && writing.space == space ? slot_bytes(writing) : 0;
    }
  }
  return bytes;
}

bool Workers::is_used(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunk) const {
  for (const Worker& worker : workers_) {
    for (const Writing& writing : worker.writes) {
      const bool has_chunk = writing.range.begin <= chunk && chunk < writing.range.end;
      if (writing.space == space && writing.prompt == prompt && has_chunk) return true;
    }
    for (const Reading& reading : worker.reads) {
      for (const Reading::Piece& piece : reading.pieces) {
        const CellId& cell = piece.cell;
        if (cell.space == space && cell.prompt == prompt && cell.chunk == chunk) return true;
      }
    }
  }
  return false;
}

/// A write was cut short though its largest cell had as many free bytes.
void Workers::note_fragmentation() {
  if (!world_.plan.tiers.empty() || world_.plan.has_quotas) return;
  EngineStats stats;
  world_.engine->snapshot(stats);
  if (stats.totals.allocations_failed == world_.stats.totals.allocations_failed) return;
  std::uint64_t bytes = 0;
  for (const GroupSpec& group : world_.layout.groups) bytes = std::max(bytes, group.cell_bytes);
  const bool has_bytes = stats.free_bytes >= world_.arena->taken_for(bytes);
  if (has_bytes) world_.coverage.note(Seen::kFragmentation);
}

bool Workers::is_being_written(const CellId& cell) const {
  for (const Worker& worker : workers_) {
    for (const Writing& writing : worker.writes) {
      if (writing.is_expired || writing.removals != world_.disturbances) continue;
      for (const CellSlot& slot : writing.slots) {
        if (cell_of(writing, slot) == cell) return true;
      }
    }
  }
  return false;
}

void Workers::check_slots(const Writing& writing, const SkipMask& skip) {
  std::pair<std::uint32_t, std::uint32_t> last{0, 0};
  bool is_first = true;
  for (const CellSlot& slot : writing.slots) {
    const CellId cell = cell_of(writing, slot);
    world_.log({slot.slot.offset});
    world_.use(writing.use, slot.slot, Memory::Use::kWrite, "E16, I2: a write");
    const std::pair<std::uint32_t, std::uint32_t> place{slot.chunk, slot.group};
    world_.expect(is_first || last < place, "E13: slots are not in prefix order");
    last = place;
    is_first = false;
    const bool is_skipped = skip.has(std::size_t{slot.chunk} * world_.groups() + slot.group);
    world_.expect(!is_skipped, "E17: a skipped cell has a slot");
    if (skip.words[0] != 0) world_.coverage.note(Seen::kWriteSkipped);
    world_.expect(slot.slot.bytes == world_.layout.groups[slot.group].cell_bytes,
                  "E4: a slot has another size");
    world_.expect(!is_being_written(cell), "E5: a second writer has a slot for a cell");
  }
  // E5 once more: what others write has no slot here.
  for (std::uint32_t chunk = writing.range.begin; chunk < writing.range.end; ++chunk) {
    for (std::uint32_t group = 0; group < world_.groups(); ++group) {
      const CellId cell{writing.space, writing.prompt, chunk, writing.rank, group};
      if (is_being_written(cell)) world_.coverage.note(Seen::kSecondWriter);
    }
  }
}

}  // namespace larder::cache::simulation
