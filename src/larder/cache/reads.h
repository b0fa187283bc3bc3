#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/owners.h"
#include "larder/cache/sessions.h"
#include "larder/cache/slab.h"

namespace larder::cache {

/// The reads by workers (E8): a worker has the addresses of slots, or a copy runs from them.
///
/// All or nothing: every cell of the range is resident and becomes claimed, or none does. A lock is
/// not needed; the session's shares are released whatever the outcome (E7).
/// A read that is requested again before its end is the same read, and one end() ends it.
/// Claims end with end(), or with the owner (E9).
/// Threads: the engine's. Cost: O(cells of the range).
class Reads {
 public:
  Reads(EngineState& state, Cells& cells, Owners& owners, Sessions& sessions)
      : state_(state), cells_(cells), owners_(owners), sessions_(sessions) {}

  std::optional<ReadId> begin(const ReadSpec& spec, std::vector<CellSlot>& out);
  void end(ReadId id);
  void on_owner_end(std::uint32_t owner);

  std::uint32_t size() const noexcept { return reads_.size(); }
  /// Claims of all reads.
  std::uint64_t claims() const noexcept { return claims_; }
  void check_invariants() const;

 private:
  struct Read {
    OwnerId owner{};
    SpaceId space{};
    std::uint32_t rank = 0;
    ChunkRange range;
    ChunkHash last;
    std::uint64_t begun_ns = 0;
    std::vector<CellSlot> cells;
    std::vector<SlotId> slots;  ///< Of `cells`.
  };

  std::uint32_t find(const ReadSpec& spec, const Owner& owner) const noexcept;
  bool is_asked_well(const ReadSpec& spec, const Owner* owner) const noexcept;
  bool find_cells(const ReadSpec& spec, const Layout& layout);
  std::uint32_t claim(const ReadSpec& spec, const Layout& layout);
  void finish(std::uint32_t number);

  EngineState& state_;
  Cells& cells_;
  Owners& owners_;
  Sessions& sessions_;
  Slab<Read> reads_;
  std::uint64_t claims_ = 0;
  std::vector<ColumnId> columns_;  ///< Scratch: by chunk of the range.
};

}  // namespace larder::cache
