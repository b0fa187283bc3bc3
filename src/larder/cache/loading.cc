#include "larder/cache/loading.h"

#include <algorithm>
#include <bit>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

Miss miss_of_load(const Item& item) noexcept {
  if (item.outcome != Outcome::kFailed) return Miss::kFailed;
  switch (item.error.code()) {
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kCancelled:
      return Miss::kLate;
    case ErrorCode::kUnavailable:
      return Miss::kDown;
    case ErrorCode::kSizeMismatch:
      return Miss::kOtherLayout;
    default:
      return Miss::kFailed;
  }
}

}  // namespace

Loading::Loading(EngineState& state, Cells& cells, Sessions& sessions, Tiers& tiers,
                 Slab<Fetch>& fetches)
    : state_(state), cells_(cells), sessions_(sessions), tiers_(tiers), fetches_(fetches) {
  cells_.set_watch(this);
}

// ---- Waiting.

void Loading::wait(std::uint32_t id, std::uint32_t cell, SlotId slot) {
  Fetch& fetch = fetches_[id];
  LARDER_CHECK(fetch.cells[cell].waits_for == kNone);
  fetch.cells[cell].waits_for = slot;
  ++fetch.waiting;
  if (by_slot_.size() <= slot) by_slot_.resize(cells_.slots().end());
  const std::uint32_t number = waiters_.acquire();
  waiters_[number] = {fetches_.handle(id), cell, by_slot_[slot].first};
  by_slot_[slot].first = number;
}

void Loading::unwait(std::uint32_t id, std::uint32_t cell) {
  Fetch& fetch = fetches_[id];
  const SlotId slot = std::exchange(fetch.cells[cell].waits_for, kNone);
  --fetch.waiting;
  std::uint32_t* link = &by_slot_[slot].first;
  while (waiters_[*link].fetch != fetches_.handle(id) || waiters_[*link].cell != cell) {
    link = &waiters_[*link].next;
  }
  const std::uint32_t number = *link;
  *link = waiters_[number].next;
  waiters_.release(number);
  by_slot_[slot].is_abandoned = by_slot_[slot].first == kNone;
}

void Loading::load(std::uint32_t fetch, std::uint32_t cell, SlotId slot) {
  wait(fetch, cell, slot);
  collect(fetch, cell, slot);
}

void Loading::join(std::uint32_t fetch, std::uint32_t cell, SlotId slot) {
  ++state_.totals.cells_load_joined;
  wait(fetch, cell, slot);
}

void Loading::on_load_end(SlotId slot, bool is_resident) noexcept {
  if (slot >= by_slot_.size()) return;
  const OfSlot ended = std::exchange(by_slot_[slot], OfSlot{});
  std::uint32_t number = ended.first;
  while (number != kNone) {
    const Waiter waiter = waiters_[number];
    waiters_.release(number);
    arrived_.push_back({waiter.fetch, waiter.cell, is_resident});
    number = waiter.next;
  }
  if (ended.operation == kNone) return;
  // A cell that a worker has stored, or a removal has taken, meanwhile is not loaded any more.
  L2Operation& operation = tiers_.operation(ended.operation);
  if (!operation.is_submitted && !operation.keeps && !has_waiters(operation)) {
    tiers_.cancel(operation);
  }
}

// ---- Batches.

/// Adds the cell to the batch of the first tier that has it, in the order of the tiers (E23).
void Loading::collect(std::uint32_t id, std::uint32_t cell, SlotId slot) {
  Fetch& fetch = fetches_[id];
  const TierMask left = fetch.cells[cell].left();
  LARDER_CHECK(left != 0);
  const auto tier = static_cast<TierId>(
      is_broken(CacheRule::kFirstTierFirst) ? std::bit_width(left) - 1 : std::countr_zero(left));
  const std::uint64_t bytes = cells_.slots()[slot].ref.bytes;
  L2Operation* operation = collected_[tier];
  if (operation != nullptr && (operation->source != fetches_.handle(id) ||
                               operation->bytes + bytes > state_.options.batch_bytes_max)) {
    send(tier);
    operation = nullptr;
  }
  if (operation == nullptr) {
    operation = collected_[tier] = &tiers_.make(L2Kind::kLoad, tier);
    operation->source = fetches_.handle(id);
    operation->batch.deadline_ns = fetch.deadline_ns;
    operation->batch.urgency = fetch.keeps_locks ? Urgency::kDemand : Urgency::kPrefetch;
    fetch.operations.push_back(operation->id);
  }
  by_slot_[slot].operation = operation->id;
  const Layout& layout = state_.layouts[fetch.layout];
  const Row row = fetch.row_of(cell);
  cells_.add_io(slot);
  tiers_.add(
      *operation,
      {fetch.space, fetch.chunks[fetch.chunk_of(cell)], layout.rank_of(row), layout.group_of(row)},
      {slot, cell}, &cells_.slots()[slot].ref);
}

void Loading::send(TierId tier) {
  L2Operation* const operation = std::exchange(collected_[tier], nullptr);
  if (operation != nullptr) tiers_.send(*operation);
}

void Loading::flush() {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) send(tier);
}

/// E27. The slot keeps its cell meanwhile.
bool Loading::load_from_next(L2Operation& operation, const L2Cell& cell, const Item& item) {
  Fetch* const fetch = fetches_.find(operation.source);
  if (fetch == nullptr || fetch->phase != FetchPhase::kLoading) return false;
  FetchCell& mine = fetch->cells[cell.number];
  if (mine.waits_for != cell.slot) return false;
  mine.tried |= bit_of(operation.tier);
  mine.miss = miss_of_load(item);
  if (mine.left() == 0 || state_.now_ns >= fetch->deadline_ns) return false;
  if (is_broken(CacheRule::kNextConnector)) return false;
  cells_.drop_io(cell.slot);
  collect(static_cast<std::uint32_t>(operation.source), cell.number, cell.slot);
  return true;
}

void Loading::on_item(L2Operation& operation, const L2Cell& cell, const Item& item) {
  const bool is_hit = item.outcome == Outcome::kHit;
  ++(is_hit ? state_.totals.cells_loaded : state_.totals.cells_load_failed);
  if (cells_.slots()[cell.slot].state == SlotState::kOrphan) return cells_.drop_io(cell.slot);
  if (!is_hit) {
    if (load_from_next(operation, cell, item)) return;
    cells_.drop_io(cell.slot);
    return cells_.discard_loading(cell.slot);
  }
  state_.totals.bytes_loaded += cells_.slots()[cell.slot].ref.bytes;
  Fetch* const fetch = fetches_.find(operation.source);
  if (fetch != nullptr && fetch->cells[cell.number].waits_for == cell.slot) {
    fetch->cells[cell.number].source = static_cast<std::uint8_t>(operation.tier);
  }
  const ColumnId column = cells_.slots()[cell.slot].column;
  cells_.publish_loading(cell.slot);
  if (operation.keeps && !tiers_.is_memory(operation.tier)) cells_.keep(column);
  deliver();  // It is locked before its I/O pin ends, so that it always has a pin.
  cells_.drop_io(cell.slot);
}

void Loading::on_loaded(L2Operation& operation) {
  for (std::size_t i = 0; i < operation.size(); ++i) {
    on_item(operation, operation.cells()[i], operation.items()[i]);
  }
  flush();
  if (Fetch* const fetch = fetches_.find(operation.source)) {
    std::erase(fetch->operations, operation.id);
  }
  deliver();
}

// ---- What has arrived.

void Loading::take(Fetch& fetch, std::uint32_t cell) {
  const std::uint32_t chunk = fetch.chunk_of(cell);
  const Row row = fetch.row_of(cell);
  const ColumnRef column = sessions_[fetch.session].columns[chunk];
  if (!cells_.columns().is_current(column)) return;
  if (cells_.columns()[column.id].cells[row].state != CellState::kResident) return;
  sessions_.lock_cell(fetch.session, chunk, row, fetch.readers);
}

/// Another's load of the cell has failed, and this fetch may have more time or other tiers.
bool Loading::load_again(std::uint32_t id, Fetch& fetch, std::uint32_t cell) {
  FetchCell& mine = fetch.cells[cell];
  if (mine.has_rejoined || mine.left() == 0 || fetch.was_cleared) return false;
  if (state_.layouts.current(fetch.space) != fetch.layout) return false;  // E4
  if (state_.now_ns >= fetch.deadline_ns || is_broken(CacheRule::kNextConnector)) return false;
  mine.has_rejoined = true;
  const std::uint32_t chunk = fetch.chunk_of(cell);
  const Row row = fetch.row_of(cell);
  const ColumnId column = cells_.find_or_make(fetch.space, fetch.chunks[chunk]);
  const Cell& now = cells_.columns()[column].cells[row];
  sessions_.put_column(fetch.session, chunk, column);
  if (now.state == CellState::kResident) {
    sessions_.lock_cell(fetch.session, chunk, row, fetch.readers);
    return false;
  }
  if (now.state == CellState::kLoading && !is_abandoned(now.slot)) {
    join(id, cell, now.slot);
    return true;
  }
  if (now.state == CellState::kLoading) cells_.abandon_loading(column, row);
  SlotId slot = kNone;
  const std::uint64_t bytes = state_.layouts[fetch.layout].group(row).cell_bytes;
  const ColumnId again = cells_.find_or_make(fetch.space, fetch.chunks[chunk]);
  if (cells_.reserve(again, row, bytes, SlotState::kLoading, slot) != Reserved::kYes) return false;
  sessions_.put_column(fetch.session, chunk, again);
  load(id, cell, slot);
  return true;
}

void Loading::deliver() {
  // load_again() may add to the list.
  for (std::size_t i = 0; i < arrived_.size(); ++i) {
    const Arrival arrival = arrived_[i];
    Fetch* const fetch = fetches_.find(arrival.fetch);
    if (fetch == nullptr || fetch->cells[arrival.cell].waits_for == kNone) continue;
    fetch->cells[arrival.cell].waits_for = kNone;
    --fetch->waiting;
    if (arrival.is_resident) {
      take(*fetch, arrival.cell);
    } else {
      load_again(static_cast<std::uint32_t>(arrival.fetch), *fetch, arrival.cell);
    }
    if (fetch->waiting == 0) ready_.push_back(arrival.fetch);
  }
  arrived_.clear();
  flush();
}

std::uint32_t Loading::take_ready() {
  while (!ready_.empty()) {
    const std::uint64_t handle = ready_.front();
    ready_.erase(ready_.begin());
    const Fetch* const fetch = fetches_.find(handle);
    if (fetch != nullptr && fetch->waiting == 0) return static_cast<std::uint32_t>(handle);
  }
  return kNone;
}

bool Loading::has_waiters(L2Operation& operation) const noexcept {
  return std::ranges::any_of(operation.cells(), [&](const L2Cell& cell) {
    return cell.slot != kNone && by_slot_[cell.slot].first != kNone;
  });
}

void Loading::abandon(std::uint32_t id, bool keeps) {
  deliver();  // A cell that has arrived is in no list of a slot any more.
  Fetch& fetch = fetches_[id];
  left_.clear();
  for (std::uint32_t cell = 0; cell < fetch.cells.size() && fetch.waiting > 0; ++cell) {
    const SlotId slot = fetch.cells[cell].waits_for;
    if (slot == kNone) continue;
    left_.push_back(by_slot_[slot].operation);
    unwait(id, cell);
  }
  for (const std::uint32_t number : fetch.operations) {
    L2Operation& operation = tiers_.operation(number);
    operation.keeps = keeps && !has_waiters(operation);
    left_.push_back(number);
  }
  for (const std::uint32_t number : left_) {
    L2Operation& operation = tiers_.operation(number);
    if (!has_waiters(operation)) tiers_.cancel(operation);
  }
}

void Loading::check_invariants() const {
  std::uint64_t waiters = 0;
  for (std::uint32_t id = 0; id < fetches_.end(); ++id) {
    if (!fetches_.is_used(id)) continue;
    std::uint32_t waiting = 0;
    for (const FetchCell& cell : fetches_[id].cells) waiting += cell.waits_for != kNone ? 1 : 0;
    LARDER_CHECK(waiting == fetches_[id].waiting);
    waiters += waiting;
  }
  LARDER_CHECK(waiters == waiters_.size() + arrived_.size());
  for (SlotId slot = 0; slot < by_slot_.size(); ++slot) {
    if (by_slot_[slot].first == kNone) continue;
    LARDER_CHECK(cells_.slots().is_used(slot));
    LARDER_CHECK(cells_.slots()[slot].state == SlotState::kLoading);
    LARDER_CHECK(!by_slot_[slot].is_abandoned);  // E28
  }
}

}  // namespace larder::cache
