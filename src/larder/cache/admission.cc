#include "larder/cache/admission.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

/// Fetches that may pass the head in one go: each try looks at its whole request.
constexpr std::size_t kPassersMax = 8;

}  // namespace

Admission::Admission(EngineState& state, Cells& cells, Sessions& sessions, Loading& loading,
                     Slab<Fetch>& fetches)
    : state_(state), cells_(cells), sessions_(sessions), loading_(loading), fetches_(fetches) {}

/// Bytes that are locked, or will be when loads arrive.
std::uint64_t Admission::promised_bytes() const noexcept {
  return cells_.locked_bytes() + cells_.slots().bytes_in(SlotState::kLoading);
}

// ---- The queue.

void Admission::enqueue(std::uint32_t id) {
  fetches_[id].phase = FetchPhase::kWaiting;
  fetches_[id].waits_since_ns = state_.now_ns;
  queue_.push_back(id);
  has_changed_ = true;
}

void Admission::remove(std::uint32_t id) {
  const bool was_head = !queue_.empty() && queue_.front() == id;
  if (std::erase(queue_, id) == 0) return;
  has_changed_ = true;
  if (was_head) cells_.hold(0);
}

std::uint32_t Admission::let_in() {
  if (queue_.empty()) {
    wants_turn_ = false;  // The fetch that set it has ended.
    return kNone;
  }
  if (!has_changed_ && openings_seen_ == cells_.openings()) return kNone;
  has_changed_ = false;
  wants_turn_ = false;
  const std::uint64_t head_waits_ns = state_.now_ns - fetches_[queue_.front()].waits_since_ns;
  const bool may_pass =
      head_waits_ns < state_.options.pass_over_ns || is_broken(CacheRule::kPassOver);
  const std::size_t tries = may_pass ? std::min(queue_.size(), 1 + kPassersMax) : 1;
  for (std::size_t i = 0; i < tries; ++i) {
    const std::uint32_t id = queue_[i];
    const Tried tried = admit(id, i == 0);
    wants_turn_ = wants_turn_ || tried == Tried::kLater;
    if (tried != Tried::kIn) {
      if (!std::exchange(fetches_[id].was_queued, true)) ++state_.totals.lookups_queued;
      continue;
    }
    if (i == 0) cells_.hold(0);
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(i));
    has_changed_ = true;  // The next one may be admitted, too.
    return id;
  }
  openings_seen_ = cells_.openings();  // Events of the tries themselves do not count.
  return kNone;
}

// ---- The plan.

Cost Admission::cost_of(const Fetch& fetch, std::uint32_t chunk, Row row) const {
  const ColumnId id = scan_.columns()[chunk];
  const Cell* const cell = id == kNone ? nullptr : &cells_.columns()[id].cells[row];
  if (cell != nullptr && cell->state == CellState::kResident) {
    return {0, cell->locks == 0 ? cells_.bytes_of(*cell) : 0};
  }
  const std::uint64_t bytes =
      cells_.slots().arena().taken_for(state_.layouts[fetch.layout].group(row).cell_bytes);
  const bool is_joined =
      cell != nullptr && cell->state == CellState::kLoading && !loading_.is_abandoned(cell->slot);
  return is_joined ? Cost{} : Cost{bytes, bytes};  // For a joined load, the first fetch has both.
}

/// Nothing can be had where the layout was replaced since the lookup (E4).
std::span<const ChunkHash> Admission::chunks_of(const Fetch& fetch) const noexcept {
  if (state_.layouts.current(fetch.space) != fetch.layout) return {};
  return fetch.chunks;
}

/// Chunks of the longest prefix that L1 could ever take (E25).
std::uint32_t Admission::plan(Fetch& fetch, const Layout& layout) {
  scan_.run(cells_, fetch.space, chunks_of(fetch), layout,
            [&](std::uint32_t chunk, Row row) { return fetch.cell(chunk, row).left() != 0; });
  fetch.l1_hit = scan_.in_l1().best();
  const std::uint32_t found = scan_.anywhere().best();
  cost_.build(layout, found,
              [&](std::uint32_t chunk, Row row) { return cost_of(fetch, chunk, row); });
  const std::uint64_t load_max = cells_.share_of_l1(state_.options.load_share);
  const std::uint64_t lock_max = cells_.share_of_l1(state_.options.lock_share);
  std::uint32_t hit = found;
  while (hit > 0) {
    const Cost cost = cost_.of(hit);
    const bool fits_load = cost.load_bytes <= load_max || is_broken(CacheRule::kLoadShare);
    if (fits_load && cost.lock_bytes <= lock_max) break;
    hit = scan_.anywhere().best_at_most(hit - 1);
  }
  fetch.was_trimmed = hit < found;
  return hit;
}

std::uint32_t Admission::fit_locks(const PrefixScan& scan, const Layout& layout,
                                   std::uint32_t hit) {
  const std::uint64_t lock_max = cells_.share_of_l1(state_.options.lock_share);
  if (is_broken(CacheRule::kLockShare)) return hit;
  // A hit that is alone may have all of L1: nothing else waits for room that it could free.
  const std::uint64_t promised = promised_bytes();
  if (promised == 0 || promised + scan.resident_bytes() <= lock_max) return hit;
  cost_.build(layout, hit, [&](std::uint32_t chunk, Row row) -> Cost {
    const ColumnId id = scan.columns()[chunk];
    if (id == kNone) return {};
    const Cell& cell = cells_.columns()[id].cells[row];
    return {0, cell.locks == 0 ? cells_.bytes_of(cell) : 0};
  });
  for (; hit > 0; hit = scan.in_l1().best_at_most(hit - 1)) {
    const std::uint64_t bytes = cost_.of(hit).lock_bytes;
    if (bytes == 0 || promised + bytes <= lock_max) break;
  }
  return hit;
}

void Admission::take_l1(std::uint32_t id) {
  Fetch& fetch = fetches_[id];
  const Layout& layout = state_.layouts[fetch.layout];
  scan_.run(cells_, fetch.space, chunks_of(fetch), layout);
  fetch.l1_hit = scan_.in_l1().best();
  fetch.plan = fit_locks(scan_, layout, fetch.l1_hit);
  fetch.was_trimmed = fetch.plan < fetch.l1_hit;
  sessions_.set_columns(fetch.session, scan_.columns().first(fetch.plan), fetch.layout);
  sessions_.lock_hit(fetch.session, fetch.plan, fetch.readers);
}

// ---- One try.

Admission::Tried Admission::admit(std::uint32_t id, bool is_head) {
  Fetch& fetch = fetches_[id];
  const Layout& layout = state_.layouts[fetch.layout];
  std::uint32_t hit = plan(fetch, layout);
  bool was_cut = false;
  for (;;) {
    const Tried tried = take(fetch, layout, hit, is_head);
    if (tried == Tried::kIn) break;
    if (tried == Tried::kLater || !is_head || stuck_at_ >= hit) return tried;
    // There is room, but not in one piece, or the salt's quota forbids it: use as much as fits. The
    // try has evicted, so the plan is made again.
    const std::uint32_t fits = std::min(hit - 1, stuck_at_);
    hit = scan_.anywhere().best_at_most(std::min(plan(fetch, layout), fits));
    was_cut = true;
  }
  fetch.was_trimmed = fetch.was_trimmed || was_cut;
  fetch.phase = FetchPhase::kLoading;
  fetch.plan = hit;
  for (const Taken& taken : taken_) {
    if (taken.is_joined) {
      loading_.join(id, taken.cell, taken.slot);
    } else {
      loading_.load(id, taken.cell, taken.slot);
    }
  }
  loading_.flush();
  return Tried::kIn;
}

/// Takes all locks and all slots, or none (E24).
Admission::Tried Admission::take(Fetch& fetch, const Layout& layout, std::uint32_t hit,
                                 bool is_head) {
  stuck_at_ = kNone;
  const Cost cost = cost_.of(hit);
  const std::uint64_t lock_max = cells_.share_of_l1(state_.options.lock_share);
  const bool fits = cost.lock_bytes == 0 || promised_bytes() + cost.lock_bytes <= lock_max;
  if (!fits && !is_broken(CacheRule::kLockShare)) return Tried::kWait;
  // A fetch that passes the head takes free room only and evicts nothing before it.
  const std::uint64_t free = cells_.slots().arena().free_bytes();
  if (!is_head && free < cells_.held_bytes() + cost.load_bytes) return Tried::kWait;
  const auto columns = std::min<std::size_t>(hit, scan_.columns().size());
  sessions_.set_columns(fetch.session, scan_.columns().first(columns), fetch.layout);
  sessions_.lock_resident(fetch.session, hit, fetch.readers);
  taken_.clear();
  const RoomWish wish{state_.layouts.salt(fetch.space), fetch.layout,
                      cells_.slots().arena().taken_for(layout.spec.groups.front().cell_bytes)};
  Reserved reserved = cells_.make_room(cost.load_bytes, wish, is_head);
  if (reserved == Reserved::kYes) reserved = take_slots(fetch, layout, hit, is_head);
  if (reserved == Reserved::kYes) return Tried::kIn;
  if (is_broken(CacheRule::kAllOrNothing)) {
    // Holds on to its locks.
  } else {
    give_up(fetch);
  }
  if (is_head && !is_broken(CacheRule::kKeepRoomForHead)) {
    cells_.hold(std::min(cost.load_bytes, cells_.slots().arena().free_bytes()));
  }
  return reserved == Reserved::kLater ? Tried::kLater : Tried::kWait;
}

void Admission::give_up(Fetch& fetch) {
  for (const Taken& taken : taken_) {
    if (!taken.is_joined) cells_.discard_loading(taken.slot);
  }
  taken_.clear();
  sessions_.release_all(fetch.session);
  sessions_.set_columns(fetch.session, {}, fetch.layout);
}

Reserved Admission::take_slots(Fetch& fetch, const Layout& layout, std::uint32_t hit,
                               bool is_head) {
  for (std::uint32_t chunk = 0; chunk < hit; ++chunk) {
    for (Row row = 0; row < layout.rows(); ++row) {
      if (chunk < layout.first_needed(row, hit)) continue;
      const Reserved reserved = take_cell(fetch, chunk, row, is_head);
      if (reserved == Reserved::kYes) continue;
      if (reserved == Reserved::kNoRoom) stuck_at_ = chunk;
      return reserved;
    }
  }
  return Reserved::kYes;
}

Reserved Admission::take_cell(Fetch& fetch, std::uint32_t chunk, Row row, bool is_head) {
  const std::uint32_t number = chunk * fetch.rows + row;
  ColumnId id = cells_.find(fetch.space, fetch.chunks[chunk]);
  if (id != kNone) {
    const Cell& cell = cells_.columns()[id].cells[row];
    if (cell.state == CellState::kResident) return Reserved::kYes;
    if (cell.state == CellState::kLoading && !loading_.is_abandoned(cell.slot) &&
        !is_broken(CacheRule::kJoinLoad)) {
      taken_.push_back({number, cell.slot, true});
      sessions_.put_column(fetch.session, chunk, id);
      return Reserved::kYes;
    }
    if (cell.state == CellState::kLoading) cells_.abandon_loading(id, row);
  }
  id = cells_.find_or_make(fetch.space, fetch.chunks[chunk]);
  SlotId slot = kNone;
  const std::uint64_t bytes = state_.layouts[fetch.layout].group(row).cell_bytes;
  const Reserved reserved = cells_.reserve(id, row, bytes, SlotState::kLoading, slot, is_head);
  if (reserved != Reserved::kYes) return reserved;
  sessions_.put_column(fetch.session, chunk, id);
  taken_.push_back({number, slot, false});
  return Reserved::kYes;
}

}  // namespace larder::cache
