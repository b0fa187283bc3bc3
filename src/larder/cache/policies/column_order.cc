#include "larder/cache/policies/column_order.h"

#include <algorithm>
#include <bit>

namespace larder::cache {
namespace {

constexpr std::size_t kColumnsMin = 32;
constexpr std::size_t kBits = 64;

}  // namespace

void ColumnOrder::reserve(std::size_t columns) {
  const std::size_t places = std::bit_ceil(3 * std::max(columns, kColumnsMin));
  if (places <= columns_.size()) return;
  LARDER_CHECK(places < kEnd);
  is_sweeping_ = false;
  sweep(next_place_ + std::size_t{1});
  columns_.resize(places, kNoColumn);
  levels_.clear();
  for (std::size_t words = places / kBits; true; words = (words + kBits - 1) / kBits) {
    levels_.emplace_back(words, 0);
    if (words == 1) break;
  }
  for (Place place = 0; place < next_place_; ++place) {
    if (!record(columns_[place]).is_hidden) set_bit(place);
  }
}

void ColumnOrder::push(ColumnId column) noexcept {
  LARDER_CHECK(next_place_ < columns_.size());
  ColumnRecord& pushed = record(column);
  pushed.place = next_place_++;
  columns_[pushed.place] = column;
  if (!pushed.is_hidden) set_bit(pushed.place);
  ++size_;
  bytes_ += pushed.bytes;
  if (is_sweeping_ || next_place_ >= columns_.size() / 4 * 3) sweep(kSweepPlaces);
}

void ColumnOrder::remove(ColumnId column) noexcept {
  const ColumnRecord& removed = record(column);
  if (!removed.is_hidden) clear_bit(removed.place);
  columns_[removed.place] = kNoColumn;
  --size_;
  bytes_ -= removed.bytes;
}

/// Begins or continues a sweep by so many positions.
void ColumnOrder::sweep(std::size_t places) noexcept {
  if (!is_sweeping_) {
    is_sweeping_ = true;
    sweep_to_ = 0;
    sweep_from_ = 0;
  }
  for (; places > 0 && sweep_from_ < next_place_; --places, ++sweep_from_) {
    const ColumnId column = columns_[sweep_from_];
    if (column == kNoColumn) continue;
    if (sweep_to_ != sweep_from_) {
      ColumnRecord& moved = record(column);
      if (!moved.is_hidden) {
        clear_bit(sweep_from_);
        set_bit(sweep_to_);
      }
      moved.place = sweep_to_;
      columns_[sweep_to_] = column;
      columns_[sweep_from_] = kNoColumn;
    }
    ++sweep_to_;
  }
  if (sweep_from_ < next_place_) return;
  next_place_ = sweep_to_;
  is_sweeping_ = false;
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
