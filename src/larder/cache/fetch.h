#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "larder/cache/engine_stats.h"
#include "larder/cache/ids.h"
#include "larder/cache/layouts.h"
#include "larder/cache/timers.h"

namespace larder::cache {

/// A cell of a fetch.
struct FetchCell {
  TierMask found = 0;          ///< Tiers that reported that they have it.
  TierMask tried = 0;          ///< Of these, the ones whose load has failed.
  SlotId waits_for = kNone;    ///< The slot whose load it waits for, its own or another fetch's.
  std::uint8_t source = 0xFF;  ///< The tier that it was loaded from, by this fetch.
  Miss miss = Miss::kNeverStored;
  bool has_rejoined = false;  ///< It was loaded again after another's load of it failed (E28).

  TierMask left() const noexcept { return static_cast<TierMask>(found & ~tried); }
};

enum class FetchPhase : std::uint8_t {
  kAsking = 0,  ///< The tiers are asked which cells they have.
  kWaiting,     ///< Waits for room in L1; holds nothing (E24).
  kLoading,     ///< Holds the locks and slots of its plan.
};

/// A lookup that L1 alone cannot decide, from its question to its result. Its columns and locks are
/// the session's.
struct Fetch {
  /// How far one tier is with the question.
  struct Asked {
    std::uint32_t next_piece = 0;
    std::uint32_t pieces_out = 0;
  };

  SessionId session = kNone;
  SpaceId space{};
  LayoutId layout{};
  std::uint32_t readers = 1;
  bool keeps_locks = true;   ///< No: a warm-up, whose locks end with it.
  bool was_cleared = false;  ///< Its cells are not kept (E36).
  bool is_late = false;      ///< Its deadline has passed.
  bool was_trimmed = false;
  bool was_queued = false;  ///< It could not be admitted at once.
  FetchPhase phase = FetchPhase::kAsking;
  std::uint64_t deadline_ns = 0;
  std::uint64_t waits_since_ns = 0;
  std::vector<ChunkHash> before;  ///< LookupSpec::begin: they are only used in L1.
  std::vector<ChunkHash> chunks;  ///< Asked for; a chunk or a hit is counted from their first.
  Row rows = 0;
  std::vector<FetchCell> cells;  ///< By chunk and row.

  // The question.
  std::vector<std::uint32_t> asked;         ///< Cells that L1 lacks, in prefix order.
  std::uint32_t asked_end = 0;              ///< Those behind it cannot matter.
  std::vector<std::uint8_t> piece_answers;  ///< Tiers that have answered, by piece.
  std::array<Asked, kTiersMax> tiers{};

  // The loads.
  std::uint32_t plan = 0;                 ///< Chunks that are locked or loaded.
  std::uint32_t l1_hit = 0;               ///< Chunks that L1 alone would have served.
  std::uint32_t waiting = 0;              ///< Cells with waits_for.
  std::vector<std::uint32_t> operations;  ///< In flight or queued.

  Timer timer;

  FetchCell& cell(std::uint32_t chunk, Row row) noexcept {
    return cells[std::size_t{chunk} * rows + row];
  }
  std::uint32_t chunk_of(std::uint32_t cell) const noexcept { return cell / rows; }
  Row row_of(std::uint32_t cell) const noexcept { return static_cast<Row>(cell % rows); }
};

}  // namespace larder::cache
