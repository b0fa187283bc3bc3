#include "larder/cache/lookups.h"

#include <algorithm>

#include "larder/cache/cache_rule.h"

namespace larder::cache {

void Lookups::scan(const LookupSpec& spec, const Layout& layout) {
  constexpr std::size_t kAhead = 8;
  columns_.clear();
  bytes_ = 0;
  fold_.begin(layout);
  for (std::size_t i = 0; i < spec.chunks.size(); ++i) {
    if (i + kAhead < spec.chunks.size()) {
      cells_.columns().prefetch(spec.space, spec.chunks[i + kAhead]);
    }
    const ColumnId id = cells_.find(spec.space, spec.chunks[i]);
    columns_.push_back(id);
    if (id == kNone) {
      if (!fold_.add([](Row) { return false; })) return;
      continue;
    }
    const Column& column = cells_.columns()[id];
    bytes_ += column.resident_bytes;
    if (column.is_complete()) {
      fold_.add_complete();
    } else if (!fold_.add(
                   [&](Row row) { return column.cells[row].state == CellState::kResident; })) {
      return;
    }
  }
}

/// The longest prefix, up to `hit`, whose new locks leave room for stores and loads (E12).
std::uint32_t Lookups::fit_locks(const Layout& layout, std::uint32_t hit) const {
  const auto locked_max = static_cast<std::uint64_t>(
      state_.options.lock_share * static_cast<double>(cells_.slots().arena().capacity_bytes()));
  if (is_broken(CacheRule::kLockShare)) return hit;
  if (cells_.locked_bytes() + bytes_ <= locked_max) return hit;
  while (hit > 0 &&
         cells_.locked_bytes() + sessions_.newly_locked(layout, columns_, hit) > locked_max) {
    hit = fold_.best_at_most(hit - 1);
  }
  return hit;
}

Miss Lookups::reason(const LookupSpec& spec, std::uint32_t chunk) const noexcept {
  const ChunkHash& hash = spec.chunks[chunk];
  if (cells_.has_other_layout(spec.space, hash)) return Miss::kOtherLayout;
  return cells_.was_evicted(spec.space, hash) ? Miss::kEvicted : Miss::kNeverStored;
}

void Lookups::start(SessionId session, const LookupSpec& spec) {
  const Layout& layout = state_.layouts[state_.layouts.current(spec.space)];
  scan(spec, layout);
  const std::uint32_t found = fold_.best();
  const std::uint32_t hit = spec.lock ? fit_locks(layout, found) : found;
  if (hit < found) ++state_.totals.lookups_trimmed;
  sessions_.set_columns(session, std::span{columns_}.first(hit),
                        state_.layouts.current(spec.space));
  if (spec.lock) {
    const std::uint32_t readers = spec.readers == 0 ? layout.spec.world_size : spec.readers;
    sessions_.lock_hit(session, hit, std::clamp<std::uint32_t>(readers, 1, 128));
  }
  for (std::uint32_t i = hit; i-- > 0;) {  // E20
    const std::uint32_t chunk = is_broken(CacheRule::kTailsFirst) ? hit - 1 - i : i;
    if (columns_[chunk] == kNone) continue;
    ++cells_.columns()[columns_[chunk]].hits;
    cells_.touch(columns_[chunk]);
  }

  const auto asked = static_cast<std::uint32_t>(spec.chunks.size());
  ++state_.totals.lookups;
  state_.totals.asked += asked;
  state_.totals.hit_l1 += hit;
  if (hit < asked) {
    const Miss why = hit < found ? Miss::kTrimmed : reason(spec, hit);
    state_.totals.missed[static_cast<std::size_t>(why)] += asked - hit;
  }
  sessions_.set_result(session, hit);
}

}  // namespace larder::cache
