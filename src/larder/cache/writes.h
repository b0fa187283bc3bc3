#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/engine_state.h"
#include "larder/cache/owners.h"
#include "larder/cache/slab.h"

namespace larder::cache {

/// Hears which cells were stored, in prefix order.
class StoreWatch {
 public:
  virtual ~StoreWatch() = default;
  virtual void on_stored(ColumnId column, Row row) = 0;
};

/// The reservations (E13 to E17): a worker or a copy fills slots that no reader can see.
///
/// Life: open, until its owner ends it; expired after `write_ttl_ns`: others may write its cells,
///   its slots wait in quarantine, and its commit still publishes absent cells; ended with its
///   owner: its slots wait until the owner cannot write any more, and its commit publishes nothing.
/// Invariant: each of its slots is kWriting while it is open, else kQuarantine and counted in its
///   owner's quarantined bytes. An owner has one open reservation for a range.
/// Threads: the engine's. Cost: O(cells of the range); open() looks through the owner's
///   reservations, of which a worker has few.
class Writes {
 public:
  Writes(EngineState& state, Cells& cells, Owners& owners)
      : state_(state), cells_(cells), owners_(owners) {}
  void set_watch(StoreWatch* watch) noexcept { watch_ = watch; }

  std::optional<WriteId> begin(const WriteSpec& spec, std::vector<CellSlot>& out);
  bool end(WriteId id, WriteEnd how);
  std::optional<WriteId> open(const WriteSpec& spec) const;

  /// Its time is over: others may write.
  void on_timer(std::uint32_t number);
  /// Discards the owner's reservations; their memory waits unless `is_dead`.
  void on_owner_end(std::uint32_t owner, bool is_dead);
  /// New weights: open reservations are discarded at their commit (E36).
  void void_all(std::optional<SpaceId> space);

  /// The same for these chunks alone.
  void void_chunks(SpaceId space, std::span<const ChunkHash> chunks);

  std::uint32_t size() const noexcept { return writes_.size(); }
  void check_invariants() const;

 private:
  struct Piece {
    SlotId slot = kNone;
    std::uint32_t chunk = 0;  ///< From the begin of the range.
    Row row = 0;
    bool is_void = false;  ///< Removed: it is discarded.
  };
  struct Write {
    OwnerId owner{};
    SpaceId space{};
    LayoutId layout{};
    std::uint32_t rank = 0;
    ChunkRange range;
    std::vector<ChunkHash> chunks;
    std::vector<Piece> pieces;  ///< In prefix order.
    bool is_quarantined = false;
    bool is_ended = false;  ///< With its owner, or given up for a later one of its range.
    bool is_void = false;   ///< Cleared.
    std::uint64_t begun_ns = 0;
    Timer timer;
  };

  std::uint32_t find(const WriteSpec& spec) const;
  bool is_asked_well(const WriteSpec& spec, const Owner* owner) const noexcept;
  Reserved take_slots(std::uint32_t number, const WriteSpec& spec);
  void touch_behind_hole(const WriteSpec& spec);
  Reserved take_chunk(Write& write, const WriteSpec& spec, std::uint32_t chunk);
  void publish(Write& write);
  void discard(Write& write);
  void discard(const Write& write, const Piece& piece);
  void quarantine(Write& write);
  void leave_quarantine(Write& write) noexcept;
  void forget(std::uint32_t number);

  EngineState& state_;
  Cells& cells_;
  Owners& owners_;
  StoreWatch* watch_ = nullptr;
  Slab<Write> writes_;
};

}  // namespace larder::cache
