#pragma once

#include <cstdint>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/engine_stats.h"
#include "larder/cache/layouts.h"
#include "larder/cache/timers.h"

namespace larder::cache {

/// What all parts of the engine share. Threads: the engine's.
struct EngineState {
  EngineState(const EngineOptions& with, Listener& to) : options(with), listener(to) {}

  const EngineOptions options;
  Listener& listener;
  std::uint64_t now_ns = 0;          ///< Of the last turn().
  std::uint64_t touches = 0;         ///< The sequence in which columns are used (E20).
  std::uint32_t touch_interval = 1;  ///< The number of the one that now_ns is in (E40).
  EngineTotals totals;
  std::vector<std::uint32_t> first_needed;  ///< Scratch: by row.
  Layouts layouts;
  Timers timers;
};

}  // namespace larder::cache
