#include "larder/cache/asking.h"

#include <algorithm>
#include <bit>

#include "larder/cache/cache_rule.h"

namespace larder::cache {
namespace {

Miss miss_of(const Item& item) noexcept {
  if (item.outcome == Outcome::kFailed) {
    const ErrorCode code = item.error.code();
    if (code == ErrorCode::kDeadlineExceeded || code == ErrorCode::kCancelled) return Miss::kLate;
    return code == ErrorCode::kUnavailable ? Miss::kDown : Miss::kFailed;
  }
  switch (item.miss_reason) {
    case MissReason::kAbsent:
      return Miss::kNeverStored;
    case MissReason::kFailedBefore:
      return Miss::kFailed;
    case MissReason::kDown:
      return Miss::kDown;
    case MissReason::kLate:
      return Miss::kLate;
    case MissReason::kOther:
      return Miss::kOtherLayout;
  }
  return Miss::kNeverStored;
}

}  // namespace

std::uint32_t Asking::pieces(const Fetch& fetch) const noexcept {
  const std::uint32_t keys = state_.options.exists_keys_max;
  const auto all = static_cast<std::uint32_t>(fetch.asked.size());
  const std::uint32_t end = is_broken(CacheRule::kAskInPieces) ? all : fetch.asked_end;
  return (end + keys - 1) / keys;
}

bool Asking::begin(Fetch& fetch, std::uint64_t handle) {
  fetch.asked.clear();
  for (std::uint32_t chunk = 0; chunk < fetch.chunks.size(); ++chunk) {
    const ColumnId id = cells_.find(fetch.space, fetch.chunks[chunk]);
    if (id != kNone && cells_.columns()[id].is_complete()) continue;
    for (Row row = 0; row < fetch.rows; ++row) {
      const bool is_resident =
          id != kNone && cells_.columns()[id].cells[row].state == CellState::kResident;
      if (!is_resident) fetch.asked.push_back(chunk * fetch.rows + row);
    }
  }
  fetch.asked_end = static_cast<std::uint32_t>(fetch.asked.size());
  fetch.piece_answers.assign(pieces(fetch), 0);
  fetch.tiers.fill({});
  return go_on(fetch, handle);
}

bool Asking::is_answered(const Fetch& fetch) const noexcept {
  const auto tiers = static_cast<std::uint8_t>(std::popcount(tiers_.loads()));
  const std::uint32_t count = pieces(fetch);
  return std::all_of(fetch.piece_answers.begin(), fetch.piece_answers.begin() + count,
                     [&](std::uint8_t answers) { return answers == tiers; });
}

/// Piece by piece over the tiers, so that a hole that all of them see early ends the question
/// early.
bool Asking::go_on(Fetch& fetch, std::uint64_t handle) {
  bool has_asked = true;
  while (has_asked) {
    has_asked = false;
    for (TierId tier = 0; tier < tiers_.size(); ++tier) {
      if ((tiers_.loads() & bit_of(tier)) == 0) continue;
      if (fetch.tiers[tier].next_piece >= pieces(fetch)) continue;
      has_asked |= ask_piece(fetch, handle, tier);
    }
  }
  return is_answered(fetch);
}

bool Asking::ask_piece(Fetch& fetch, std::uint64_t handle, TierId tier) {
  Fetch::Asked& asked = fetch.tiers[tier];
  if (asked.pieces_out >= state_.options.exists_ahead) return false;
  const std::uint32_t keys = state_.options.exists_keys_max;
  const std::uint32_t begin = asked.next_piece * keys;
  const auto end =
      std::min<std::uint32_t>(begin + keys, static_cast<std::uint32_t>(fetch.asked.size()));
  L2Operation& operation = tiers_.make(L2Kind::kExists, tier);
  operation.source = handle;
  operation.piece = asked.next_piece++;
  operation.batch.deadline_ns = fetch.deadline_ns;
  operation.batch.urgency = fetch.keeps_locks ? Urgency::kDemand : Urgency::kPrefetch;
  const Layout& layout = state_.layouts[fetch.layout];
  for (std::uint32_t i = begin; i < end; ++i) {
    const std::uint32_t cell = fetch.asked[i];
    const Row row = fetch.row_of(cell);
    tiers_.add(operation,
               {fetch.space, fetch.chunks[fetch.chunk_of(cell)], layout.rank_of(row),
                layout.group_of(row)},
               {.number = cell}, nullptr);
  }
  if (tiers_.probe(operation)) {
    state_.totals.probed_keys += operation.size();
    absorb(fetch, operation);
    tiers_.release(operation);
    return true;
  }
  state_.totals.exists_keys += operation.size();
  ++asked.pieces_out;
  fetch.operations.push_back(operation.id);
  tiers_.send(operation);
  return true;
}

void Asking::note(Fetch& fetch, FetchCell& cell, Row row, TierId tier, const Item& item) const {
  const std::uint64_t bytes = state_.layouts[fetch.layout].group(row).cell_bytes;
  // Sizes that the layout leaves open are unknown before the load, so nothing is found. A connector
  // that does not know the value's size leaves it to the load to compare.
  const bool may_fit = item.value_bytes == bytes || item.value_bytes == 0;
  if (item.outcome == Outcome::kHit && bytes != 0 && may_fit) {
    cell.found |= bit_of(tier);
    return;
  }
  const Miss miss = item.outcome == Outcome::kHit ? Miss::kOtherLayout : miss_of(item);
  if (miss != Miss::kNeverStored) cell.miss = miss;
}

void Asking::absorb(Fetch& fetch, L2Operation& operation) {
  for (std::size_t i = 0; i < operation.size(); ++i) {
    const std::uint32_t number = operation.cells()[i].number;
    if (tiers_.hides(operation.tier, fetch.space, fetch.chunks[fetch.chunk_of(number)])) continue;
    note(fetch, fetch.cells[number], fetch.row_of(number), operation.tier, operation.items()[i]);
  }
  ++fetch.piece_answers[operation.piece];
  look_for_hole(fetch, operation.piece);
}

void Asking::look_for_hole(Fetch& fetch, std::uint32_t piece) const {
  if (fetch.piece_answers[piece] != std::popcount(tiers_.loads())) return;
  const Layout& layout = state_.layouts[fetch.layout];
  const std::uint32_t keys = state_.options.exists_keys_max;
  const std::uint32_t end = std::min(fetch.asked_end, (piece + 1) * keys);
  for (std::uint32_t i = piece * keys; i < end; ++i) {
    const std::uint32_t cell = fetch.asked[i];
    if (layout.group(fetch.row_of(cell)).window_chunks != 0 || fetch.cells[cell].found != 0) {
      continue;
    }
    fetch.asked_end = i;
    return;
  }
}

bool Asking::on_answer(Fetch& fetch, std::uint64_t handle, L2Operation& operation) {
  --fetch.tiers[operation.tier].pieces_out;
  absorb(fetch, operation);
  return go_on(fetch, handle);
}

}  // namespace larder::cache
