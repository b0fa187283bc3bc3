#include "larder/cache/stores.h"

#include <algorithm>
#include <vector>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

/// The error says something about this value, not about the tier.
bool is_values_own(ErrorCode code) noexcept {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kSizeMismatch ||
         code == ErrorCode::kCorruption;
}

}  // namespace

Stores::Stores(EngineState& state, Cells& cells, Tiers& tiers)
    : state_(state), cells_(cells), tiers_(tiers) {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    Lane& lane = lanes_.emplace_back();
    lane.retry.kind = TimerKind::kStore;
    lane.retry.id = tier;
  }
}

// ---- Wants.

void Stores::want(ColumnId id, Row row, TierMask tiers) {
  const Cell& cell = cells_.columns()[id].cells[row];
  if (cell.state != CellState::kResident || cell.is_leaving) return;
  const auto added = static_cast<TierMask>(tiers & ~cell.wants);
  if (added == 0) return;
  cells_.set_wants(id, row, static_cast<TierMask>(cell.wants | added));
  cells_.settle(id);
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if ((added & bit_of(tier)) == 0) continue;
    Lane& lane = lanes_[tier];
    append(lane, place_of(id, row));
    if (lane.wanted.size() > 2 * cells_.cells_wanted() + 1024) sweep(lane, tier);
  }
}

void Stores::on_stored(ColumnId id, Row row) {
  TierMask wants = 0;
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    const TierOptions& options = tiers_.options(tier);
    const bool has_hits =
        cells_.columns()[id].hits >= options.min_hits || is_broken(CacheRule::kMinHits);
    if (options.store && has_hits) wants |= bit_of(tier);
  }
  if (wants == 0) return;
  if (state_.options.skip_l1 && !is_broken(CacheRule::kSkipL1)) cells_.drain(id);
  want(id, row, wants);
}

void Stores::on_hit(ColumnId id) {
  const Column& column = cells_.columns()[id];
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    const TierOptions& options = tiers_.options(tier);
    if (!options.store || options.min_hits == 0 || options.min_hits != column.hits) continue;
    for (Row row = 0; row < column.rows; ++row) want(id, row, bit_of(tier));
  }
}

bool Stores::is_wanted(const Place& place, TierId tier) const noexcept {
  if (!cells_.columns().is_current(place.column)) return false;
  const Cell& cell = cells_.columns()[place.column.id].cells[place.row];
  return (cell.wants & bit_of(tier)) != 0 && (cell.storing & bit_of(tier)) == 0;
}

void Stores::sweep(Lane& lane, TierId tier) {
  std::erase_if(lane.wanted, [&](const Place& place) { return !is_wanted(place, tier); });
  lane.bytes = 0;
  for (const Place& place : lane.wanted) lane.bytes += place.bytes;
}

Stores::Place Stores::place_of(ColumnId id, Row row) const noexcept {
  const Cell& cell = cells_.columns()[id].cells[row];
  return {cells_.columns().ref(id), row, cells_.bytes_of(cell)};
}

void Stores::append(Lane& lane, const Place& place) {
  lane.bytes += place.bytes;
  if (is_broken(CacheRule::kStoreHeadsFirst)) return lane.wanted.push_front(place);
  lane.wanted.push_back(place);
}

void Stores::drop_first(Lane& lane) noexcept {
  lane.bytes -= lane.wanted.front().bytes;
  lane.wanted.pop_front();
}

bool Stores::should_gather(TierId tier) const noexcept {
  return tiers_.bytes_in_flight(tier, L2Kind::kStore) > 0 &&
         lanes_[tier].bytes < state_.options.batch_bytes_max;
}

bool Stores::is_idle() const noexcept {
  return std::ranges::all_of(lanes_,
                             [](const Lane& lane) { return lane.wanted.empty() || lane.is_down; });
}

// ---- Batches.

bool Stores::is_over_quota(TierId tier, SaltId salt, std::uint64_t bytes) const noexcept {
  if (is_broken(CacheRule::kTierQuota)) return false;
  const std::uint64_t limit = cells_.room().quota(salt).tier_limit_bytes;
  const std::uint64_t held = tiers_.accounts().bytes(tier, salt);
  return held > limit || bytes > limit - held;
}

L2Operation* Stores::collect(TierId tier) {
  Lane& lane = lanes_[tier];
  const std::uint64_t bytes_max = std::min(
      state_.options.batch_bytes_max, tiers_.options(tier).store_bytes_max -
                                          std::min(tiers_.options(tier).store_bytes_max,
                                                   tiers_.bytes_in_flight(tier, L2Kind::kStore)));
  L2Operation* operation = nullptr;
  while (!lane.wanted.empty()) {
    const Place place = lane.wanted.front();
    if (!is_wanted(place, tier)) {
      drop_first(lane);
      continue;
    }
    Column& column = cells_.columns()[place.column.id];
    Cell& cell = column.cells[place.row];
    const SlotRef& slot = cells_.slots()[cell.slot].ref;
    const SaltId salt = state_.layouts.salt(column.space);
    if (is_over_quota(tier, salt, slot.bytes)) {
      ++state_.totals.l2_store_over_quota;
      ++state_.totals.tiers[tier].store_over_quota;
      tiers_.accounts().note_refused(tier, salt);
      drop_first(lane);
      end_want(place.column.id, place.row, tier);
      cells_.settle(place.column.id);
      continue;
    }
    const bool is_first = operation == nullptr;
    // A value above the bound goes alone, when nothing else is in flight.
    const bool fits = (is_first ? 0 : operation->bytes) + slot.bytes <= bytes_max;
    const bool is_alone = is_first && tiers_.bytes_in_flight(tier, L2Kind::kStore) == 0;
    if (!fits && !is_alone) break;
    if (is_first) operation = &tiers_.make(L2Kind::kStore, tier);
    drop_first(lane);
    cell.storing |= bit_of(tier);
    cells_.add_io(cell.slot);
    tiers_.accounts().begin_store(tier, salt, slot.bytes);
    const Layout& layout = cells_.layout_of(column);
    tiers_.add(*operation,
               {column.space, column.hash, layout.rank_of(place.row), layout.group_of(place.row)},
               {cell.slot, index_of(salt)}, &slot);
    cells_.settle(place.column.id);
  }
  return operation;
}

void Stores::submit(TierId tier) {
  if (tiers_.holds_stores(tier)) return;
  while (!lanes_[tier].is_paused && !should_gather(tier)) {
    L2Operation* const operation = collect(tier);
    if (operation == nullptr) return;
    state_.totals.l2_store_submitted += operation->size();
    operation->batch.urgency = Urgency::kStore;
    operation->batch.deadline_ns = kNever;
    tiers_.send(*operation);
    // It has ended already: refused. Its result is handled first.
    if (!operation->is_submitted) return;
  }
}

void Stores::submit() {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    if (!lanes_[tier].wanted.empty()) submit(tier);
  }
}

void Stores::end_want(ColumnId column, Row row, TierId tier) noexcept {
  const Cell& cell = cells_.columns()[column].cells[row];
  cells_.set_wants(column, row, static_cast<TierMask>(cell.wants & ~bit_of(tier)));
}

void Stores::on_ended(L2Operation& operation) {
  const TierId tier = operation.tier;
  Lane& lane = lanes_[tier];
  std::vector<Place> again;
  std::size_t stored = 0;
  std::size_t failed = 0;
  bool was_refused = false;
  for (std::size_t i = 0; i < operation.size(); ++i) {
    const SlotId slot = operation.cells()[i].slot;
    const Item& item = operation.items()[i];
    if (item.outcome != Outcome::kFailed) ++stored;
    if (item.outcome == Outcome::kFailed && !is_values_own(item.error.code())) ++failed;
    tiers_.accounts().end_store(tier, SaltId{operation.cells()[i].number}, bytes_of(item.value),
                                item.outcome != Outcome::kFailed && !item.existed);
    if (cells_.slots()[slot].state == SlotState::kOrphan) {
      cells_.drop_io(slot);
      continue;
    }
    const ColumnId column = cells_.slots()[slot].column;
    const Row row = cells_.slots()[slot].row;
    Cell& cell = cells_.columns()[column].cells[row];
    cell.storing = static_cast<TierMask>(cell.storing & ~bit_of(tier));
    const bool is_wanted_still = (cell.wants & bit_of(tier)) != 0;
    if (item.outcome != Outcome::kFailed) {
      ++state_.totals.l2_store_done;
      ++state_.totals.tiers[tier].cells_stored;
      end_want(column, row, tier);
    } else if ((item.error.is_retryable() || item.error.code() == ErrorCode::kCancelled) &&
               !is_broken(CacheRule::kDownKeepsWants)) {
      if (is_wanted_still) again.push_back(place_of(column, row));
      lane.is_down = was_refused = true;
    } else if (++cell.store_failures >= kFailuresMax && !is_broken(CacheRule::kThreeFailures)) {
      ++state_.totals.l2_store_failed;
      ++state_.totals.tiers[tier].store_failed;
      end_want(column, row, tier);
    } else if (is_wanted_still) {
      append(lane, place_of(column, row));
    }
    cells_.drop_io(slot);
  }
  // If nothing was stored, the tier may be at fault and not the cells: they must not lose their
  // three tries within a moment.
  const bool is_failing = failed > 0 && stored == 0 && !is_broken(CacheRule::kPauseAfterFailure);
  const bool is_in_trouble = is_failing || was_refused;
  lane.is_paused = lane.is_paused || is_in_trouble;
  for (const Place& place : again) lane.bytes += place.bytes;
  lane.wanted.insert(lane.wanted.begin(), again.begin(), again.end());
  if (is_in_trouble) {
    state_.timers.arm(lane.retry, state_.now_ns + state_.options.tier_retry_ns);
  }
}

void Stores::on_timer(TierId tier) {
  lanes_[tier].is_paused = false;
  lanes_[tier].is_down = false;
}

void Stores::check_invariants() const {
  for (const Lane& lane : lanes_) {
    std::uint64_t bytes = 0;
    for (const Place& place : lane.wanted) bytes += place.bytes;
    LARDER_CHECK(bytes == lane.bytes);
  }
  for (ColumnId id = 0; id < cells_.columns().end(); ++id) {
    if (!cells_.columns().is_used(id)) continue;
    for (const Cell& cell : cells_.columns()[id].all()) {
      LARDER_CHECK((cell.storing & ~cell.wants) == 0 || cell.is_leaving);
    }
  }
}

}  // namespace larder::cache
