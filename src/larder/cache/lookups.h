#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fold.h"
#include "larder/cache/sessions.h"

namespace larder::cache {

/// Lookups that L1 alone decides (E10, E12, E23).
///
/// Threads: the engine's. Cost: one look at the index and one at the column for each chunk of the
/// hit; no allocation once the scratch has grown.
class Lookups {
 public:
  Lookups(EngineState& state, Cells& cells, Sessions& sessions)
      : state_(state), cells_(cells), sessions_(sessions) {}

  /// Sets the session's result.
  void start(SessionId session, const LookupSpec& spec);

 private:
  void scan(const LookupSpec& spec, const Layout& layout);
  std::uint32_t fit_locks(const Layout& layout, std::uint32_t hit) const;
  Miss reason(const LookupSpec& spec, std::uint32_t chunk) const noexcept;

  EngineState& state_;
  Cells& cells_;
  Sessions& sessions_;
  Fold fold_;
  std::vector<ColumnId> columns_;  ///< By chunk.
  std::uint64_t bytes_ = 0;        ///< Of the columns: no lookup locks more.
};

}  // namespace larder::cache
