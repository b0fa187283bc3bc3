#include "larder/cache/column_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "larder/base/check.h"

namespace larder::cache {

ColumnTable::ColumnTable(std::size_t columns_expected) {
  const std::size_t entries = std::bit_ceil(std::max<std::size_t>(2 * columns_expected, 1024));
  index_.resize(entries);
  mask_ = entries - 1;
}

std::uint32_t ColumnTable::hash_of(SpaceId space, const ChunkHash& hash) noexcept {
  const std::uint64_t mixed =
      (hash.fingerprint() + index_of(space)) * std::uint64_t{0xD6E8FEB86659FD93};
  return static_cast<std::uint32_t>(mixed >> 32);
}

std::size_t ColumnTable::place_of(SpaceId space, const ChunkHash& hash) const noexcept {
  const std::uint32_t wanted = hash_of(space, hash);
  std::size_t place = wanted & mask_;
  while (index_[place].column != kNone) {
    if (index_[place].hash == wanted) {
      const Column& column = columns_[index_[place].column];
      if (column.hash == hash && column.space == space) break;
    }
    place = (place + 1) & mask_;
  }
  return place;
}

ColumnId ColumnTable::find(SpaceId space, const ChunkHash& hash) const noexcept {
  return index_[place_of(space, hash)].column;
}

ColumnId ColumnTable::make(SpaceId space, const ChunkHash& hash, LayoutId layout, Row rows) {
  LARDER_CHECK(find(space, hash) == kNone && rows > 0);
  if (2 * (std::size_t{columns_.size()} + 1) > index_.size()) grow();
  Cell* const cells = take_cells(rows);
  const ColumnId id = columns_.acquire();
  Column& column = columns_[id];
  const std::uint32_t epoch = column.epoch;
  column = Column{};
  column.hash = hash;
  column.space = space;
  column.layout = layout;
  column.rows = rows;
  column.cells = cells;
  column.epoch = epoch;
  insert({hash_of(space, hash), id});
  return id;
}

void ColumnTable::insert(Entry entry) noexcept {
  std::size_t place = entry.hash & mask_;
  while (index_[place].column != kNone) place = (place + 1) & mask_;
  index_[place] = entry;
}

void ColumnTable::grow() {
  std::vector<Entry> old(2 * index_.size());
  std::swap(old, index_);
  mask_ = index_.size() - 1;
  for (const Entry& entry : old) {
    if (entry.column != kNone) insert(entry);
  }
}

void ColumnTable::erase(ColumnId id) noexcept {
  Column& column = columns_[id];
  LARDER_CHECK(column.pins == 0 && column.resident == 0 && column.partition == kNone);
  std::size_t hole = place_of(column.space, column.hash);
  LARDER_CHECK(index_[hole].column == id);
  // Backward shift: an entry moves into the hole unless its own place lies behind the hole.
  for (std::size_t next = (hole + 1) & mask_; index_[next].column != kNone;
       next = (next + 1) & mask_) {
    const std::size_t home = index_[next].hash & mask_;
    if (((next - home) & mask_) < ((next - hole) & mask_)) continue;
    index_[hole] = index_[next];
    hole = next;
  }
  index_[hole] = Entry{};
  std::ranges::fill(column.all(), Cell{});
  pools_[column.rows].free.push_back(column.cells);
  column.cells = nullptr;
  ++column.epoch;
  columns_.release(id);
}

Cell* ColumnTable::take_cells(Row rows) {
  constexpr std::size_t kBlock = 256;
  if (pools_.size() <= rows) pools_.resize(std::size_t{rows} + 1);
  CellPool& pool = pools_[rows];
  if (!pool.free.empty()) {
    Cell* const cells = pool.free.back();
    pool.free.pop_back();
    return cells;
  }
  const std::size_t in_block = pool.made % kBlock;
  if (in_block == 0) {
    pool.blocks.push_back(std::make_unique<Cell[]>(kBlock * rows));
    pool.free.reserve(pool.blocks.size() * kBlock);
  }
  ++pool.made;
  return pool.blocks.back().get() + in_block * rows;
}

void ColumnTable::check_invariants() const {
  std::size_t found = 0;
  for (ColumnId id = 0; id < columns_.end(); ++id) {
    if (!columns_.is_used(id)) continue;
    LARDER_CHECK(find(columns_[id].space, columns_[id].hash) == id);
    ++found;
  }
  std::size_t indexed = 0;
  for (const Entry& entry : index_) indexed += entry.column != kNone ? 1 : 0;
  LARDER_CHECK(found == columns_.size() && indexed == found);
}

}  // namespace larder::cache
