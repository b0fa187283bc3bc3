#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/fetch.h"
#include "larder/cache/loading.h"
#include "larder/cache/prefix_cost.h"
#include "larder/cache/prefix_scan.h"
#include "larder/cache/sessions.h"
#include "larder/cache/slab.h"

namespace larder::cache {

/// Which fetches may lock and load, and when (E12, E24, E25).
///
/// All or nothing: a fetch gets the locks and the slots of its whole plan in one turn, or it holds
///   none. The plan is made again at each try, because L1 changes meanwhile.
/// Queue: first in, first out. A fetch behind the head may pass while the head has waited less than
///   `pass_over_ns`. Room that is freed for the head is kept for it alone.
/// Too large: a plan above `load_share`, or whose locks alone are above `lock_share`, is cut to a
///   shorter prefix at once; so is one that the head cannot get in one piece (fragmentation,
///   quota).
/// Invariant I8: a fetch in the queue holds nothing; room is kept for the head only.
/// Threads: the engine's. Cost: a try is O(cells of the request), plus its evictions.
class Admission {
 public:
  Admission(EngineState& state, Cells& cells, Sessions& sessions, Loading& loading,
            Slab<Fetch>& fetches);

  void enqueue(std::uint32_t fetch);
  void remove(std::uint32_t fetch);
  /// Tries the queue if something has changed since the last time. An admitted fetch is in phase
  /// kLoading, and may already have nothing to wait for. Returns an admitted one; kNone: no more.
  std::uint32_t let_in();
  /// In the next turn there may be room, without any other cause (E19).
  bool wants_turn() const noexcept { return wants_turn_; }
  void begin_turn() noexcept { has_changed_ = has_changed_ || wants_turn_; }
  std::size_t size() const noexcept { return queue_.size(); }

  /// Locks the prefix that L1 alone serves, as far as locks may go: the fetch has no time left.
  void take_l1(std::uint32_t fetch);
  /// The longest served prefix up to `hit` whose new locks fit now (E12).
  std::uint32_t fit_locks(const PrefixScan& scan, const Layout& layout, std::uint32_t hit);

 private:
  enum class Tried : std::uint8_t { kIn = 0, kWait, kLater };
  struct Taken {
    std::uint32_t cell = 0;
    SlotId slot = kNone;
    bool is_joined = false;
  };

  Tried admit(std::uint32_t id, bool is_head);
  std::span<const ChunkHash> chunks_of(const Fetch& fetch) const noexcept;
  std::uint32_t plan(Fetch& fetch, const Layout& layout);
  Tried take(Fetch& fetch, const Layout& layout, std::uint32_t hit, bool is_head);
  Reserved take_slots(Fetch& fetch, const Layout& layout, std::uint32_t hit, bool is_head);
  Reserved take_cell(Fetch& fetch, std::uint32_t chunk, Row row, bool is_head);
  void give_up(Fetch& fetch);
  Cost cost_of(const Fetch& fetch, std::uint32_t chunk, Row row) const;
  std::uint64_t promised_bytes() const noexcept;

  EngineState& state_;
  Cells& cells_;
  Sessions& sessions_;
  Loading& loading_;
  Slab<Fetch>& fetches_;
  std::deque<std::uint32_t> queue_;
  std::uint64_t openings_seen_ = 0;
  bool has_changed_ = false;  ///< The queue has, since it was tried.
  bool wants_turn_ = false;
  PrefixScan scan_;
  PrefixCost cost_;
  std::vector<Taken> taken_;    ///< Scratch: for the try.
  std::uint32_t stuck_at_ = 0;  ///< The chunk that found no room.
};

}  // namespace larder::cache
