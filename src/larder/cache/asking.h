#pragma once

#include <cstdint>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetch.h"
#include "larder/cache/tiers.h"

namespace larder::cache {

/// Asks the tiers which of a fetch's cells they have (E23).
///
/// Every cell that L1 lacks is asked of every tier with `load` on, in prefix order and in pieces of
/// `exists_keys_max`: by probe() in the same turn where the tier answers from memory, else by
/// Exists batches, `exists_ahead` at once, the tiers in parallel. The first hole of a
/// full-attention row ends the question: nothing behind it can be a hit. Chunks found beyond that
/// are not used. A value of another size than the layout's is a miss (E4). Threads: the engine's.
class Asking {
 public:
  Asking(EngineState& state, Cells& cells, Tiers& tiers)
      : state_(state), cells_(cells), tiers_(tiers) {}

  /// True: everything is known already.
  bool begin(Fetch& fetch, std::uint64_t handle);
  /// An Exists batch of the fetch has ended. True: everything is known now.
  bool on_answer(Fetch& fetch, std::uint64_t handle, L2Operation& operation);

 private:
  std::uint32_t pieces(const Fetch& fetch) const noexcept;
  bool go_on(Fetch& fetch, std::uint64_t handle);
  bool ask_piece(Fetch& fetch, std::uint64_t handle, TierId tier);
  void absorb(Fetch& fetch, L2Operation& operation);
  void note(Fetch& fetch, FetchCell& cell, Row row, TierId tier, const Item& item) const;
  void look_for_hole(Fetch& fetch, std::uint32_t piece) const;
  bool is_answered(const Fetch& fetch) const noexcept;

  EngineState& state_;
  Cells& cells_;
  Tiers& tiers_;
};

}  // namespace larder::cache
