#include "larder/cache/policies/column_order.h"

#include <algorithm>
#include <bit>

namespace larder::cache {
namespace {

constexpr std::size_t kColumnsMin = 32;
constexpr std::size_t kBits = 64;

}  // namespace

void ColumnOrder::reserve(std::size_t columns) {
  // Twice the columns, so that moving together frees at least half of the places.
  const std::size_t places = 2 * std::bit_ceil(std::max(columns, kColumnsMin));
  if (places <= columns_.size()) return;
  LARDER_CHECK(places < kEnd);
  columns_.resize(places, kNobody);
  levels_.clear();
  for (std::size_t words = places / kBits; true; words = (words + kBits - 1) / kBits) {
    levels_.emplace_back(words, 0);
    if (words == 1) break;
  }
  move_together();
}

void ColumnOrder::push(ColumnId column) noexcept {
  if (next_place_ == columns_.size()) move_together();
  ColumnRecord& pushed = record(column);
  pushed.place = next_place_++;
  columns_[pushed.place] = column;
  if (!pushed.is_hidden) set_bit(pushed.place);
  ++size_;
  bytes_ += pushed.bytes;
}

void ColumnOrder::remove(ColumnId column) noexcept {
  const ColumnRecord& removed = record(column);
  if (!removed.is_hidden) clear_bit(removed.place);
  columns_[removed.place] = kNobody;
  --size_;
  bytes_ -= removed.bytes;
}

void ColumnOrder::move_together() noexcept {
  for (auto& level : levels_) std::ranges::fill(level, 0);
  Place to = 0;
  for (Place from = 0; from < next_place_; ++from) {
    const ColumnId column = columns_[from];
    if (column == kNobody) continue;
    columns_[to] = column;
    record(column).place = to;
    if (!record(column).is_hidden) set_bit(to);
    ++to;
  }
  next_place_ = to;
  LARDER_CHECK(next_place_ == size_ && next_place_ < columns_.size());
}

void ColumnOrder::set_bit(Place place) noexcept {
  std::size_t index = place;
  for (auto& level : levels_) {
    std::uint64_t& word = level[index / kBits];
    const bool was_empty = word == 0;
    word |= std::uint64_t{1} << (index % kBits);
    if (!was_empty) return;
    index /= kBits;
  }
}

void ColumnOrder::clear_bit(Place place) noexcept {
  std::size_t index = place;
  for (auto& level : levels_) {
    std::uint64_t& word = level[index / kBits];
    word &= ~(std::uint64_t{1} << (index % kBits));
    if (word != 0) return;
    index /= kBits;
  }
}

ColumnOrder::Place ColumnOrder::visible_from(Place place) const noexcept {
  std::size_t index = place;
  for (std::size_t up = 0; up < levels_.size(); ++up) {
    const std::size_t word = index / kBits;
    if (word >= levels_[up].size()) return kEnd;
    ++steps_;
    const std::uint64_t found = levels_[up][word] & (~std::uint64_t{0} << (index % kBits));
    if (found == 0) {
      index = word + 1;  // The words behind this one, a level higher.
      continue;
    }
    index = word * kBits + static_cast<std::size_t>(std::countr_zero(found));
    for (std::size_t down = up; down > 0; --down) {
      ++steps_;
      const std::uint64_t below = levels_[down - 1][index];
      index = index * kBits + static_cast<std::size_t>(std::countr_zero(below));
    }
    return static_cast<Place>(index);
  }
  return kEnd;
}

}  // namespace larder::cache
