#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/engine_stats.h"
#include "larder/cache/layouts.h"
#include "larder/cache/timers.h"
#include "larder/cache/what_if.h"

namespace larder::cache {

/// State that all parts of the engine share. Threads: the engine's.
struct EngineState {
  EngineState(const EngineOptions& with, Listener& to) : options(with), listener(to) {}

  /// For gaps of up to 49 days.
  std::uint32_t now_ms() const noexcept { return static_cast<std::uint32_t>(now_ns / 1'000'000); }
  /// A lookup of `space` has its result.
  void count_lookup(SpaceId space, const LookupTotals& lookup) {
    const std::size_t at = std::min<std::size_t>(index_of(space), kSpacesCounted);
    if (totals.spaces.size() <= at) totals.spaces.resize(at + 1);
    totals.spaces[at] += lookup;
    totals.lookups += lookup.lookups;
    totals.asked += lookup.asked;
    totals.hit_l1 += lookup.hit_l1;
    totals.hit_l2 += lookup.hit_l2;
    if (what_if) what_if->count_hits(lookup.hit_l1, lookup.hit_l1 + lookup.hit_l2);
  }
  /// So many bytes took from `begun_ns` to now.
  void count_rate(RateCounts& rates, std::uint64_t bytes, std::uint64_t begun_ns) const noexcept {
    if (now_ns <= begun_ns) return;  // Within one turn: no time was seen to pass.
    constexpr double kSecondNs = 1e9;
    rates.record(static_cast<std::uint64_t>(static_cast<double>(bytes) * kSecondNs /
                                            static_cast<double>(now_ns - begun_ns)));
  }

  const EngineOptions options;
  Listener& listener;
  std::uint64_t now_ns = 0;          ///< Time of the last turn().
  std::uint64_t touches = 0;         ///< The sequence in which columns are used (E20).
  std::uint32_t touch_interval = 1;  ///< The number of the one that now_ns is in (E40).
  EngineTotals totals;
  std::optional<CapacityEstimates> what_if;  ///< If the options say so.
  std::vector<std::uint32_t> first_needed;   ///< Scratch: by row.
  Layouts layouts;
  Timers timers;
};

}  // namespace larder::cache
