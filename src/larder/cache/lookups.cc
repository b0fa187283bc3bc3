#include "larder/cache/lookups.h"

#include <algorithm>

#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

constexpr std::uint32_t kReadersMax = 128;
/// Limit of one lookup: a prompt of a million tokens on 256 ranks. It bounds the time and the
/// memory of a lookup (about 20 bytes a cell); further cells are not requested.
constexpr std::size_t kCellsMax = std::size_t{1} << 20;

}  // namespace

void Lookups::start(SessionId session, const LookupSpec& spec) {
  const Layout& layout = state_.layouts[state_.layouts.current(spec.space)];
  const std::uint32_t readers = std::clamp<std::uint32_t>(
      spec.readers == 0 ? layout.spec.world_size : spec.readers, 1, kReadersMax);
  const auto begin = static_cast<std::uint32_t>(
      is_broken(CacheRule::kAskFromBegin) ? 0
                                          : std::min<std::size_t>(spec.begin, spec.chunks.size()));
  sessions_[session].begin = begin;
  const auto before = spec.chunks.first(begin);
  LookupSpec asked = spec;
  asked.chunks = spec.chunks.subspan(begin);
  asked.chunks = asked.chunks.first(std::min(asked.chunks.size(), kCellsMax / layout.rows()));
  if (asked.lock && state_.what_if) state_.what_if->ask(asked.space, asked.chunks);
  scan_.run(cells_, asked.space, asked.chunks, layout);
  const bool may_load = may_load_ && tiers_.loads() != 0;
  if (may_load && scan_.in_l1().best() < asked.chunks.size()) {
    ++state_.totals.lookups_to_l2;
    return fetches_.start(session, asked, before, readers);
  }
  answer(session, asked, before, readers);
}

void Lookups::answer(SessionId session, const LookupSpec& spec, std::span<const ChunkHash> before,
                     std::uint32_t readers) {
  const LayoutId layout = state_.layouts.current(spec.space);
  const std::uint32_t found = scan_.in_l1().best();
  const std::uint32_t hit =
      spec.lock ? fetches_.admission().fit_locks(scan_, state_.layouts[layout], found) : found;
  sessions_.set_columns(session, scan_.columns().first(hit), layout);
  if (spec.lock) sessions_.lock_hit(session, hit, readers);
  const auto begin = static_cast<std::uint32_t>(before.size());
  cells_.begin_chain(spec.space, {.chunks = begin + static_cast<std::uint32_t>(spec.chunks.size()),
                                  .resident = begin + hit,
                                  .end = begin + hit});
  for (std::uint32_t i = hit; i-- > 0;) {  // E20
    const std::uint32_t chunk = is_broken(CacheRule::kTailsFirst) ? hit - 1 - i : i;
    const ColumnId column = scan_.columns()[chunk];
    if (column != kNone) uses_.hit(column);
  }
  uses_.use(spec.space, before);
  count(spec, hit, found);
  sessions_.set_result(session, hit);
}

void Lookups::count(const LookupSpec& spec, std::uint32_t hit, std::uint32_t found) {
  if (hit < found) ++state_.totals.lookups_trimmed;
  if (!spec.lock) return;  // A warm-up: no engine has asked for it.
  const auto asked = static_cast<std::uint32_t>(spec.chunks.size());
  EngineTotals& totals = state_.totals;
  state_.count_lookup(spec.space, {.lookups = 1, .asked = asked, .hit_l1 = hit, .hit_l2 = 0});
  if (hit == asked) return;
  const ChunkHash& hash = spec.chunks[hit];
  Miss why = Miss::kNeverStored;
  if (hit < found) {
    why = Miss::kTrimmed;
  } else if (cells_.has_other_layout(spec.space, hash)) {
    why = Miss::kOtherLayout;
  } else if (cells_.was_evicted(spec.space, hash)) {
    why = Miss::kEvicted;
  }
  totals.missed[static_cast<std::size_t>(why)] += asked - hit;
}

}  // namespace larder::cache
