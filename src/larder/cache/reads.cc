#include "larder/cache/reads.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/cache/cache_rule.h"

namespace larder::cache {

bool Reads::is_asked_well(const ReadSpec& spec, const Owner* owner) const noexcept {
  if (owner == nullptr || !state_.layouts.is_known(spec.space) || spec.chunks.empty()) return false;
  if (state_.layouts.current(spec.space) != owner->layout) return false;
  return spec.chunks.size() == spec.range.size() &&
         spec.rank < state_.layouts[owner->layout].spec.world_size;
}

std::uint32_t Reads::find(const ReadSpec& spec, const Owner& owner) const noexcept {
  for (const std::uint32_t number : owner.reads) {
    const Read& read = reads_[number];
    if (read.space == spec.space && read.rank == spec.rank &&
        read.range.begin == spec.range.begin && read.range.end == spec.range.end &&
        read.last == spec.chunks.back()) {
      return number;
    }
  }
  return kNone;
}

/// Fills columns_; false: some cell that the range needs is not resident.
bool Reads::find_cells(const ReadSpec& spec, const Layout& layout) {
  const auto count = static_cast<std::uint32_t>(spec.chunks.size());
  columns_.assign(count, kNone);
  for (std::uint32_t chunk = 0; chunk < count; ++chunk) {
    for (std::uint32_t group = 0; group < layout.groups(); ++group) {
      const Row row = layout.row_of(spec.rank, group);
      const bool whole = is_broken(CacheRule::kReadWindow);
      if (!whole && chunk < layout.first_needed(row, count)) continue;
      if (columns_[chunk] == kNone) columns_[chunk] = cells_.find(spec.space, spec.chunks[chunk]);
      if (columns_[chunk] == kNone) return false;
      if (cells_.columns()[columns_[chunk]].cells[row].state != CellState::kResident) return false;
    }
  }
  return true;
}

std::uint32_t Reads::claim(const ReadSpec& spec, const Layout& layout) {
  const std::uint32_t number = reads_.acquire();
  Read& read = reads_[number];
  read.owner = spec.owner;
  read.space = spec.space;
  read.rank = spec.rank;
  read.range = spec.range;
  read.last = spec.chunks.back();
  read.begun_ns = state_.now_ns;
  read.cells.clear();
  read.slots.clear();
  const auto count = static_cast<std::uint32_t>(spec.chunks.size());
  for (std::uint32_t chunk = 0; chunk < count; ++chunk) {
    if (columns_[chunk] == kNone) continue;
    for (std::uint32_t group = 0; group < layout.groups(); ++group) {
      const Row row = layout.row_of(spec.rank, group);
      const Cell& cell = cells_.columns()[columns_[chunk]].cells[row];
      if (chunk < layout.first_needed(row, count) || cell.state != CellState::kResident) continue;
      cells_.claim(columns_[chunk], row);
      read.slots.push_back(cell.slot);
      read.cells.push_back(
          {chunk, static_cast<std::uint16_t>(group), cells_.slots()[cell.slot].ref});
    }
    cells_.settle(columns_[chunk]);
  }
  claims_ += read.slots.size();
  state_.totals.cells_read += read.slots.size();
  return number;
}

std::optional<ReadId> Reads::begin(const ReadSpec& spec, std::vector<CellSlot>& out) {
  out.clear();
  Owner* const owner = owners_.find_alive(spec.owner);
  if (!is_asked_well(spec, owner)) return std::nullopt;
  const Layout& layout = state_.layouts[owner->layout];
  std::uint32_t number = spec.is_separate ? kNone : find(spec, *owner);
  if (number != kNone) {
    ++state_.totals.reads_repeated;
  } else {
    ++state_.totals.reads;
    if (find_cells(spec, layout) || is_broken(CacheRule::kReadWholeRange)) {
      number = claim(spec, layout);
      owner->reads.push_back(number);
    } else {
      ++state_.totals.reads_failed;
      state_.totals.chunks_read_failed += spec.chunks.size();
    }
  }
  // After the claim, so that the cells always have a pin.
  const SessionId session = sessions_.find_for_read(spec.session);
  if (session != kNone) {
    sessions_.note_named(session, spec.session);
    if (number != kNone || !is_broken(CacheRule::kFailedReadReleases)) {
      sessions_.release_read(session, spec.owner, spec.rank, spec.range);
    }
  }
  if (number == kNone) return std::nullopt;
  out = reads_[number].cells;
  return ReadId{reads_.handle(number)};
}

void Reads::finish(std::uint32_t number) {
  Read& read = reads_[number];
  claims_ -= read.slots.size();
  // The slots are in prefix order; tails go first (E20).
  for (std::size_t i = read.slots.size(); i-- > 0;) cells_.unclaim(read.slots[i]);
  read.slots.clear();
  std::erase(owners_.find(read.owner)->reads, number);
  reads_.release(number);
}

void Reads::end(ReadId id) {
  const Read* const read = reads_.find(static_cast<std::uint64_t>(id));
  if (read == nullptr) return;
  std::uint64_t bytes = 0;
  for (const CellSlot& cell : read->cells) bytes += cell.slot.bytes;
  state_.count_rate(state_.totals.read_rate, bytes, read->begun_ns);
  finish(static_cast<std::uint32_t>(static_cast<std::uint64_t>(id)));
}

void Reads::on_owner_end(std::uint32_t owner) {
  const std::vector<std::uint32_t> numbers = owners_[owner].reads;
  for (const std::uint32_t number : numbers) finish(number);
}

void Reads::check_invariants() const {
  std::uint64_t claims = 0;
  for (std::uint32_t number = 0; number < reads_.end(); ++number) {
    if (!reads_.is_used(number)) continue;
    LARDER_CHECK(owners_.find(reads_[number].owner) != nullptr);
    for (const SlotId slot : reads_[number].slots) {
      LARDER_CHECK(cells_.slots().is_used(slot));
      LARDER_CHECK(cells_.slots()[slot].claims > 0);
    }
    claims += reads_[number].slots.size();
  }
  LARDER_CHECK(claims == claims_);
}

}  // namespace larder::cache
