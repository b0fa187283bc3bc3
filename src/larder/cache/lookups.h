#pragma once

#include <cstdint>
#include <span>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetches.h"
#include "larder/cache/prefix_scan.h"
#include "larder/cache/sessions.h"
#include "larder/cache/tiers.h"
#include "larder/cache/uses.h"

namespace larder::cache {

/// Lookups: those that L1 alone decides are answered here (E10, E12, E23, E29); the others become
/// fetches.
///
/// start() cuts off the chunks below LookupSpec::begin. After that a lookup's chunks are those from
/// there on, and the earlier ones are only used in L1 when it is answered.
/// Threads: the engine's. Cost: one look at the index and one at the column for each chunk of the
/// hit; no allocation once the scratch has grown.
class Lookups {
 public:
  Lookups(EngineState& state, Cells& cells, Sessions& sessions, Tiers& tiers, Uses& uses,
          Fetches& fetches)
      : state_(state),
        cells_(cells),
        sessions_(sessions),
        tiers_(tiers),
        uses_(uses),
        fetches_(fetches) {}

  /// Sets the session's result, now or later.
  void start(SessionId session, const LookupSpec& spec);
  /// Lookups ask L1 only from here on.
  void stop_loading() noexcept { may_load_ = false; }

 private:
  void answer(SessionId session, const LookupSpec& spec, std::span<const ChunkHash> before,
              std::uint32_t readers);
  void count(const LookupSpec& spec, std::uint32_t hit, std::uint32_t found);

  EngineState& state_;
  Cells& cells_;
  Sessions& sessions_;
  Tiers& tiers_;
  Uses& uses_;
  Fetches& fetches_;
  PrefixScan scan_;
  bool may_load_ = true;
};

}  // namespace larder::cache
