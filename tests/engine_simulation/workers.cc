#include "tests/engine_simulation/workers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/engine_simulation/lookup_watch.h"
#include "tests/engine_simulation/room_watch.h"

namespace larder::cache::simulation {

void Workers::add() {
  const auto layout = world_.engine->add_layout(world_.layout);
  if (!layout) return world_.fail("E4: a layout that lives is refused");
  world_.layout_id = *layout;
  world_.groups_known =
      std::max(world_.groups_known, static_cast<std::uint32_t>(world_.layout.groups.size()));
  Worker& worker = workers_.emplace_back();
  worker.owner = world_.engine->add_owner(*layout);
  worker.layout_number = world_.layout_number;
}

CellId Workers::cell_of(const Writing& writing, const CellSlot& slot) const {
  return {writing.space, writing.prompt, writing.range.begin + slot.chunk, writing.rank,
          slot.group};
}

// ---- Reads.

void Workers::read() {
  Request* const request = clients_.any_with_hit();
  Worker& worker = any();
  if (request == nullptr || worker.is_gone()) return;
  const std::uint32_t rank = world_.below32(world_.ranks());
  // The serving engine reads what it does not have; reading more is allowed.
  const bool reads_all = request->hit == request->begin || world_.one_in(8);
  ChunkRange range{reads_all ? 0 : request->begin, request->hit};
  if (!world_.plan.frees_whole && world_.one_in(4)) {
    range.begin = world_.below32(request->hit);
    range.end = range.begin + 1 + world_.below32(request->hit - range.begin);
  }
  const auto chain = chain_of(request->prompt, range.end);
  const std::string id = "r" + std::to_string(request->id);
  ReadSpec spec;
  spec.owner = worker.owner;
  // A worker of another connection names the request alone.
  spec.session = {world_.one_in(8) ? 77 : request->connection, id};
  spec.space = world_.space(request->space);
  spec.rank = rank;
  spec.range = range;
  spec.chunks = std::span{chain}.subspan(range.begin);
  const bool must_succeed = clients_.holds(*request, rank, range);
  std::vector<CellSlot> slots;
  const auto read = world_.engine->begin_read(spec, slots);
  world_.log({5, read.has_value(), slots.size()});
  world_.trace("read [%u, %u) of prompt %u, space %u, rank %u: %s", range.begin, range.end,
               request->prompt, request->space, rank, read ? "done" : "no");
  if (must_succeed) {
    world_.expect(read.has_value(), "I5, E8: an answered hit cannot be read");
    world_.coverage.note(Seen::kHitRead);
  }
  if (read) keep_read(worker, *read, *request, rank, range, slots);
  clients_.on_read(spec.session.connection, request->id, worker.owner, rank, range);
}

void Workers::keep_read(Worker& worker, ReadId id, const Request& request, std::uint32_t rank,
                        ChunkRange range, const std::vector<CellSlot>& slots) {
  const auto open =
      std::ranges::find_if(worker.reads, [&](const Reading& other) { return other.id == id; });
  if (open != worker.reads.end()) {
    // E8: the same slots, whatever has become of their cells since.
    bool is_same = open->pieces.size() == slots.size();
    for (std::size_t i = 0; is_same && i < slots.size(); ++i) {
      is_same = open->pieces[i].slot.offset == slots[i].slot.offset;
    }
    return world_.expect(is_same, "E8: a read that is repeated has other slots");
  }
  Reading reading;
  reading.id = id;
  check_read(request, rank, range, slots, reading);
  reading.use = ++world_.last_use;
  for (const Reading::Piece& piece : reading.pieces) {
    world_.use(reading.use, piece.slot, Memory::Use::kRead, "I3: a read");
  }
  worker.reads.push_back(std::move(reading));
}

void Workers::check_read(const Request& request, std::uint32_t rank, ChunkRange range,
                         const std::vector<CellSlot>& slots, Reading& reading) {
  std::size_t expected = 0;
  for (std::uint32_t group = 0; group < world_.groups(); ++group) {
    expected += range.size() - world_.first_needed(group, range.size());
  }
  world_.expect(slots.size() == expected, "E8: a read is neither all nor nothing");
  for (const CellSlot& slot : slots) {
    const CellId cell{request.space, request.prompt, range.begin + slot.chunk, rank, slot.group};
    if (slot.slot.bytes != world_.layout.groups[slot.group].cell_bytes) {
      return world_.fail("E4: a read has a cell of another layout");
    }
    const std::uint64_t version = world_.check_bytes(slot.slot, cell, "a read");
    world_.see(cell, version, world_.oracle.last_version(), "a read");
    world_.log({6, version});
    reading.pieces.push_back({slot.slot, cell, version});
  }
}

void Workers::end_read() {
  Worker& worker = any();
  if (worker.reads.empty()) return;
  const auto at = static_cast<std::size_t>(world_.below(worker.reads.size()));
  const Reading reading = std::move(worker.reads[at]);
  worker.reads.erase(worker.reads.begin() + static_cast<std::ptrdiff_t>(at));
  for (const Reading::Piece& piece : reading.pieces) {
    world_.expect(version_in(world_.bytes_of(piece.slot), piece.cell) == piece.version,
                  "E2: bytes have changed under a read");
  }
  world_.memory.remove(reading.use);
  world_.engine->end_read(reading.id);
}

/// Of one read, so that a step stays cheap.
void Workers::check_copies() {
  if (workers_.empty()) return;
  const Worker& worker = workers_[static_cast<std::size_t>(world_.digest % workers_.size())];
  if (worker.reads.empty()) return;
  for (const Reading::Piece& piece : worker.reads[world_.digest % worker.reads.size()].pieces) {
    world_.expect(version_in(world_.bytes_of(piece.slot), piece.cell) == piece.version,
                  "E2: bytes have changed under a read");
  }
}

// ---- Writes.

void Workers::fill(const Writing& writing) const {
  for (const CellSlot& slot : writing.slots) {
    write_version(world_.bytes_of(slot.slot), cell_of(writing, slot), writing.version);
  }
}

void Workers::begin_write() {
  Worker& worker = any();
  if (worker.is_gone()) return;
  Writing writing;
  writing.space = world_.below32(kSalts);
  writing.prompt = world_.below32(world_.plan.prompts);
  writing.rank = world_.below32(world_.ranks());
  const bool has_begin = !world_.plan.frees_whole && world_.one_in(3);
  writing.range.begin = has_begin ? world_.below32(3) : 0;
  writing.range.end = std::min(writing.range.begin + 1 + world_.below32(kChunksMax), kChunksMax);
  const auto chain = chain_of(writing.prompt, writing.range.end);
  const std::uint64_t skipped = world_.one_in(4) ? world_.random.next() & world_.random.next() : 0;
  const SkipMask skip{{&skipped, 1}};
  WriteSpec spec;
  spec.owner = worker.owner;
  spec.space = world_.space(writing.space);
  spec.rank = writing.rank;
  spec.range = writing.range;
  spec.chunks = std::span{chain}.subspan(writing.range.begin);
  if (skipped != 0) spec.skip = &skip;
  const bool was_open = is_open(worker, writing);
  const auto quarantine_max = static_cast<std::uint64_t>(
      world_.plan.options.quarantine_share * static_cast<double>(world_.arena->capacity_bytes()));
  const bool is_too_slow = quarantined_bytes(worker) > quarantine_max;

  watch_->before_write(writing.space, writing.prompt, writing.range);
  const auto write = world_.engine->begin_write(spec, writing.slots);
  world_.log({7, write.has_value(), writing.slots.size()});
  world_.trace("write [%u, %u) of prompt %u, space %u, rank %u: %zu slots", writing.range.begin,
               writing.range.end, writing.prompt, writing.space, writing.rank,
               writing.slots.size());
  note_fragmentation();
  if (was_open) {
    world_.expect(!write, "E13: an owner has two reservations for a range");
    world_.expect(world_.engine->open_write(spec).has_value(), "E13: a reservation is not found");
  }
  if (is_too_slow) {
    world_.coverage.note(Seen::kQuarantineLimit);
    world_.expect(!write, "E16: an owner with much in quarantine gets more slots");
  }
  const std::size_t cells = std::size_t{writing.range.size()} * world_.groups();
  if (!write) return watch_->after_write(writing.space, cells, false);
  writing.id = *write;
  writing.version = world_.oracle.next_version();
  writing.began_ns = world_.now_ns;
  writing.layout_number = world_.layout_number;
  writing.removals = world_.disturbances;
  writing.use = ++world_.last_use;
  check_slots(writing, skip);
  fill(writing);
  const std::uint32_t space = writing.space;
  for (Writing& other : worker.writes) {
    other.is_given_up = other.is_given_up || is_same_range(other, writing);
  }
  worker.writes.push_back(std::move(writing));
  watch_->after_write(space, cells, true);
}

void Workers::end_write() {
  Worker& worker = any();
  if (worker.writes.empty()) return;
  const auto at = static_cast<std::size_t>(world_.below(worker.writes.size()));
  Writing writing = std::move(worker.writes[at]);
  worker.writes.erase(worker.writes.begin() + static_cast<std::ptrdiff_t>(at));
  const bool is_gone = worker.is_gone() || writing.is_given_up;
  const bool publishes = !world_.one_in(8);
  const bool is_other_layout = writing.layout_number != world_.layout_number;
  if (!is_gone) fill(writing);  // A late writer fills its own slots once more.
  if (publishes && !is_gone && !writing.is_void && !is_other_layout) {
    for (const CellSlot& slot : writing.slots) {
      const CellId cell = cell_of(writing, slot);
      const bool is_removed = (writing.void_chunks >> cell.chunk & 1U) != 0;
      if (is_removed) world_.coverage.note(Seen::kCommitAfterRemove);
      if (!is_removed) world_.oracle.commit(cell, writing.version);
    }
    world_.coverage.note(Seen::kWritePublished);
  }
  world_.memory.remove(writing.use);
  const bool is_published = publishes && !is_gone && !writing.is_void && !is_other_layout;
  watch_->before_commit(writing, is_published);
  lookups_->before_commit(writing, is_published);
  EngineStats before;
  world_.engine->snapshot(before);
  const bool is_done =
      world_.engine->end_write(writing.id, publishes ? WriteEnd::kPublish : WriteEnd::kDiscard);
  watch_->after_commit();
  EngineStats after;
  world_.engine->snapshot(after);
  world_.log({8, is_done});
  world_.trace("%s of prompt %u, space %u, rank %u: %s", publishes ? "commit" : "discard",
               writing.prompt, writing.space, writing.rank, is_done ? "true" : "false");
  if (is_gone && publishes) world_.coverage.note(Seen::kCommitOfEndedOwner);
  if (writing.is_void && publishes) {
    world_.coverage.note(Seen::kCommitAfterClear);
    world_.expect(after.totals.cells_stored == before.totals.cells_stored,
                  "E36: what was written during a clear is published");
  }
  world_.expect(!is_gone || !is_done, "E15: a reservation of an ended owner is published");
  world_.expect(is_done || !publishes || is_gone || is_other_layout, "E14: a commit is refused");
  if (is_published) {
    const std::uint64_t stored = after.totals.cells_stored - before.totals.cells_stored;
    lookups_->after_commit(writing, stored == writing.slots.size());
  }
  if (!is_gone && publishes && !is_other_layout && !writing.is_void) {
    const std::uint64_t heard = after.totals.cells_stored + after.totals.cells_dropped -
                                before.totals.cells_stored - before.totals.cells_dropped;
    world_.expect(heard == writing.slots.size(), "E14: a commit publishes a part of its cells");
  }
}

void Workers::scribble() {
  const Worker& worker = any();
  if (worker.writes.empty() || world_.now_ns >= worker.writes_until_ns) return;
  const Writing& writing =
      worker.writes[static_cast<std::size_t>(world_.below(worker.writes.size()))];
  world_.coverage.note(Seen::kScribble);
  for (const CellSlot& slot : writing.slots) {
    std::memset(world_.bytes_of(slot.slot).data(), 0xEE, slot.slot.bytes);
  }
}

// ---- Ends.

void Workers::forget(Worker& worker) {
  for (const Writing& writing : worker.writes) world_.memory.remove(writing.use);
  for (const Reading& reading : worker.reads) world_.memory.remove(reading.use);
  worker.writes.clear();
  worker.reads.clear();
}

void Workers::end_worker() {
  const auto at = static_cast<std::size_t>(world_.below(workers_.size()));
  Worker& worker = workers_[at];
  const bool was_gone = worker.is_gone();
  const auto why = was_gone ? OwnerEnd::kDead : static_cast<OwnerEnd>(world_.below(3));
  world_.trace("worker %zu ends: %u", at, static_cast<unsigned>(why));
  const auto seen =
      static_cast<std::size_t>(Seen::kOwnerUnregistered) + static_cast<std::size_t>(why);
  world_.coverage.note(static_cast<Seen>(seen));
  if (why == OwnerEnd::kDead) forget(worker);
  world_.engine->drop_owner(worker.owner, why);
  if (!was_gone && worker.layout_number == world_.layout_number) {
    world_.engine->drop_layout(world_.layout_id);
  }
  const bool has_memory = !worker.writes.empty() || !worker.reads.empty();
  if (!has_memory) {
    workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(at));
  } else {
    const std::uint64_t waits_ns = why == OwnerEnd::kReaped ? world_.plan.options.write_ttl_ns
                                                            : world_.plan.options.owner_grace_ns;
    worker.writes_until_ns = world_.now_ns + waits_ns;
    for (Writing& writing : worker.writes) writing.is_expired = true;
  }
  const auto alive = std::ranges::count_if(workers_, [](const Worker& w) { return !w.is_gone(); });
  if (alive < static_cast<std::ptrdiff_t>(world_.plan.workers)) {
    world_.coverage.note(Seen::kGhostReturned);
    add();
  }
}

void Workers::before_turn() {
  for (Worker& worker : workers_) {
    if (worker.writes_until_ns <= world_.now_ns) forget(worker);
    for (Writing& writing : worker.writes) {
      const std::uint64_t until_ns = writing.began_ns + world_.plan.options.write_ttl_ns;
      writing.is_expired = writing.is_expired || until_ns <= world_.now_ns;
    }
  }
  std::erase_if(workers_,
                [&](const Worker& worker) { return worker.writes_until_ns <= world_.now_ns; });
}

void Workers::on_clear(std::optional<std::uint32_t> space) {
  for (Worker& worker : workers_) {
    for (Writing& writing : worker.writes) {
      if (!space || writing.space == *space) writing.is_void = true;
    }
  }
}

void Workers::on_remove(std::uint32_t space, std::uint32_t prompt, std::uint32_t chunks) {
  for (Worker& worker : workers_) {
    for (Writing& writing : worker.writes) {
      if (writing.space == space && writing.prompt == prompt) writing.void_chunks |= chunks;
    }
  }
}

void Workers::end_all() {
  for (Worker& worker : workers_) {
    forget(worker);
    world_.engine->drop_owner(worker.owner, OwnerEnd::kDead);
    if (!worker.is_gone() && worker.layout_number == world_.layout_number) {
      world_.engine->drop_layout(world_.layout_id);
    }
  }
  workers_.clear();
}

void Workers::on_restart() {
  workers_.clear();
}

}  // namespace larder::cache::simulation
