#include "larder/cache/uses.h"

namespace larder::cache {

Uses::Uses(EngineState& state, Cells& cells, Tiers& tiers, Stores& stores)
    : state_(state), cells_(cells), tiers_(tiers), stores_(stores) {
  for (TierId tier = 0; tier < tiers_.size(); ++tier) {
    const TierOptions& options = tiers_.options(tier);
    if (options.load && options.touch) tiers_told_ |= bit_of(tier);
  }
}

void Uses::use(SpaceId space, std::span<const ChunkHash> chunks) {
  if (is_broken(CacheRule::kTouchBeforeBegin)) return;
  for (auto chunk = chunks.rbegin(); chunk != chunks.rend(); ++chunk) {
    const ColumnId id = cells_.find(space, *chunk);
    if (id != kNone) use(id);
  }
}

// ---- What the tiers hear (E40).

void Uses::stop() noexcept {
  tiers_told_ = 0;
  untold_.clear();
}

void Uses::submit() {
  if (untold_.empty()) return;
  to_touch_.clear();
  if (in_flight_ == 0 || is_broken(CacheRule::kTouchOneBatch)) collect();
  state_.totals.columns_not_touched += untold_.size() - to_touch_.size();
  untold_.clear();
  for (TierId tier = 0; tier < tiers_.size() && !to_touch_.empty(); ++tier) {
    if ((tiers_told_ & bit_of(tier)) != 0) send(tier);
  }
}

/// Heads first: without them nothing behind them is a hit.
void Uses::collect() {
  std::size_t cells = 0;
  for (auto ref = untold_.rbegin(); ref != untold_.rend(); ++ref) {
    if (!cells_.columns().is_current(*ref)) continue;
    Column& column = cells_.columns()[ref->id];
    if (was_told(column)) continue;  // It was used twice.
    cells += column.rows;
    if (cells > state_.options.exists_keys_max && !to_touch_.empty()) return;
    column.told = state_.touch_interval;
    to_touch_.push_back(ref->id);
  }
}

void Uses::send(TierId tier) {
  L2Operation* operation = nullptr;
  for (const ColumnId id : to_touch_) {
    const Column& column = cells_.columns()[id];
    const Layout& layout = cells_.layout_of(column);
    for (Row row = 0; row < column.rows; ++row) {
      const Cell& cell = column.cells[row];
      // A cell that the tier is still to get is not there yet.
      if (!cell.is_there() || (cell.wants & bit_of(tier)) != 0) continue;
      if (operation == nullptr) operation = &tiers_.make(L2Kind::kTouch, tier);
      tiers_.add(*operation, {column.space, column.hash, layout.rank_of(row), layout.group_of(row)},
                 {}, nullptr);
    }
  }
  if (operation == nullptr) return;
  operation->batch.urgency = Urgency::kBackground;
  operation->batch.deadline_ns = state_.now_ns + state_.options.touch_interval_ns;
  state_.totals.l2_touches += operation->size();
  ++in_flight_;
  tiers_.send(*operation);
}

}  // namespace larder::cache
