#include "tests/engine_simulation/room_watch.h"

#include <algorithm>

namespace larder::cache::simulation {

RoomWatch::RoomWatch(World& world, const Clients& clients, const Workers& workers)
    : world_(world), clients_(clients), workers_(workers) {
  const Plan& plan = world_.plan;
  columns_.resize(std::size_t{kSalts} * plan.prompts * kChunksMax);
  is_exact_ = plan.manner == Manner::kNoTiers && plan.is_single_row() && plan.polls_eagerly &&
              !plan.changes_layout;
}

void RoomWatch::on_restart() {
  for (Column& column : columns_) column = {};
  evicted_before_turn_ = 0;
}

// ---- Columns.

void RoomWatch::on_column(ColumnEvent event, const CellId& cell) {
  if (cell.space >= kSalts) return;
  Column& column = at(cell.space, cell.prompt, cell.chunk);
  column.is_there = event == ColumnEvent::kStored;
  if (column.is_there) {
    column.used = calls_;
    return;
  }
  if (is_paused_ || !is_exact_) return;
  if (!world_.plan.has_quotas && world_.plan.options.policy == "lru") check_tail(cell);
  if (writes_into_ == kSpaces || writes_into_ == cell.space) return;
  const Quota& quota = world_.quotas[cell.space];
  world_.expect(quota.guarantee_bytes == 0 || bytes_before_[cell.space] > quota.guarantee_bytes,
                "E22: a salt loses what it is guaranteed to another one");
}

/// E20: of two chunks that one call has used last, the later one leaves first.
void RoomWatch::check_tail(const CellId& cell) {
  if (cell.chunk + 1 == kChunksMax) return;
  const Column& head = at(cell.space, cell.prompt, cell.chunk);
  const Column& tail = at(cell.space, cell.prompt, cell.chunk + 1);
  if (!tail.is_there || tail.used != head.used || tail.is_late) return;
  if (workers_.is_used(cell.space, cell.prompt, cell.chunk + 1)) return;
  const bool is_locked = std::ranges::any_of(clients_.requests(), [&](const Request& request) {
    return request.space == cell.space && request.prompt == cell.prompt &&
           (!request.is_known || request.hit > cell.chunk + 1);
  });
  if (!is_locked) world_.fail("E20: a head leaves before its tail");
}

// ---- Uses.

void RoomWatch::before_write(std::uint32_t space, std::uint32_t prompt, ChunkRange range) {
  ++calls_;
  if (space >= kSalts) return;
  writes_into_ = space;
  if (!is_exact_) return;
  for (std::uint32_t salt = 0; salt < kSalts; ++salt) {
    bytes_before_[salt] = resident_bytes(salt) + workers_.writing_bytes(salt);
  }
  // What is there behind the first chunk without a column is used by the write.
  std::uint32_t chunk = range.begin;
  while (chunk < range.end &&
         (at(space, prompt, chunk).is_there || workers_.is_used(space, prompt, chunk))) {
    ++chunk;
  }
  for (; chunk < range.end; ++chunk) at(space, prompt, chunk).used = calls_;
}

void RoomWatch::after_write(std::uint32_t space, std::size_t cells, bool has_slots) {
  may_evict_ += cells + rows_max();
  writes_into_ = kSpaces;
  if (space >= kSalts || !has_slots || world_.layout_number > 0) return;
  const std::uint64_t used = resident_bytes(space) + workers_.open_bytes(space);
  world_.expect(used <= world_.quotas[space].limit_bytes,
                "E22: a salt has got slots above its limit");
}

void RoomWatch::before_commit(const Writing& writing, bool publishes) {
  ++calls_;
  if (!publishes) return;
  for (const CellSlot& slot : writing.slots) {
    Column& column = at(writing.space, writing.prompt, writing.range.begin + slot.chunk);
    column.was_written = true;
    column.is_late = column.is_late || writing.is_expired;
  }
}

void RoomWatch::after_commit() {
  ++calls_;
}

void RoomWatch::on_hit(const Request& request) {
  ++calls_;
  for (std::uint32_t chunk = 0; chunk < request.hit; ++chunk) {
    Column& column = at(request.space, request.prompt, chunk);
    column.used = calls_;
    column.was_hit = column.was_hit || request.asks_for(chunk);
    column.was_warmed = column.was_warmed || !request.keeps_locks;
  }
}

void RoomWatch::on_cancel(const Request& request) {
  if (world_.plan.options.promote != Promote::kRetain) return;
  for (std::uint32_t chunk = request.begin; chunk < request.chunks; ++chunk) {
    at(request.space, request.prompt, chunk).was_hit = true;
  }
}

// ---- Bytes.

/// Of a column of either layout.
std::uint64_t RoomWatch::rows_max() const {
  const Plan& plan = world_.plan;
  const std::size_t groups = std::max(plan.layout.groups.size(), plan.other_layout.groups.size());
  return world_.ranks() * groups;
}

std::uint64_t RoomWatch::column_bytes() const {
  std::uint64_t bytes = 0;
  for (const GroupSpec& group : world_.layout.groups) {
    bytes += world_.arena->taken_for(group.cell_bytes) * world_.ranks();
  }
  return bytes;
}

/// Of complete columns.
std::uint64_t RoomWatch::resident_bytes(std::uint32_t space) {
  std::uint64_t columns = 0;
  for (std::uint32_t prompt = 0; prompt < world_.plan.prompts; ++prompt) {
    for (std::uint32_t chunk = 0; chunk < kChunksMax; ++chunk) {
      columns += at(space, prompt, chunk).is_there ? 1 : 0;
    }
  }
  return columns * column_bytes();
}

void RoomWatch::before_turn() {
  EngineStats stats;
  world_.engine->snapshot(stats);
  evicted_before_turn_ = stats.totals.cells_evicted;
  // The last column of the turn may have more cells than the turn had left.
  may_evict_ = world_.plan.options.evict_cells_max + rows_max();
}

void RoomWatch::check(const EngineStats& stats) {
  world_.expect(stats.totals.cells_evicted - evicted_before_turn_ <= may_evict_,
                "E19: more cells are evicted in a turn than it may");
}

/// E30, E34: with "noop" what was not written, nor promoted, nor warmed up, leaves with its last
/// pin; and what was written leaves a buffer when every tier has it.
void RoomWatch::check_kept() {
  const Plan& plan = world_.plan;
  if (plan.options.policy != "noop" || !plan.polls_eagerly || plan.changes_layout) return;
  bool promotes = plan.options.promote != Promote::kDefault;
  bool has_far_tier = false;
  bool drains = plan.options.skip_l1;
  bool has_store = false;
  for (const TierPlan& tier : plan.tiers) {
    const bool is_far = tier.is_log || tier.locality == Locality::kLocalDisk;
    has_far_tier = has_far_tier || (tier.options.load && is_far);
    has_store = has_store || tier.options.store;
    drains = drains && (!tier.options.store || tier.options.min_hits == 0);
  }
  promotes = promotes && has_far_tier;
  drains = drains && has_store;
  for (std::uint32_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    if (!column.is_there) continue;
    const bool may_stay =
        column.was_warmed || (promotes && column.was_hit) || (column.was_written && !drains);
    if (may_stay) continue;
    world_.fail(column.was_written ? "E34: a buffer-only cell stays in L1"
                                   : "E30: a column stays that nothing has kept");
  }
}

}  // namespace larder::cache::simulation
