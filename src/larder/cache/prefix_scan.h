#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/cells.h"
#include "larder/cache/fold.h"

namespace larder::cache {

/// Which of a request's chunks exist: in L1, and in L1 and L2 together (E23).
///
/// Threads: the engine's. Cost: one look at the index and one at the column for each chunk up to
/// the first that no row needs; no allocation once it has grown.
class PrefixScan {
 public:
  /// `elsewhere(chunk, row)`: whether L2 can supply a cell that is not resident.
  template <class Elsewhere>
  void run(const Cells& cells, SpaceId space, std::span<const ChunkHash> chunks,
           const Layout& layout, Elsewhere&& elsewhere) {
    constexpr std::size_t kAhead = 8;
    columns_.clear();
    resident_bytes_ = 0;
    in_l1_.begin(layout);
    anywhere_.begin(layout);
    for (std::uint32_t chunk = 0; chunk < chunks.size() && !anywhere_.is_over(); ++chunk) {
      if (chunk + kAhead < chunks.size()) cells.columns().prefetch(space, chunks[chunk + kAhead]);
      const ColumnId id = cells.find(space, chunks[chunk]);
      columns_.push_back(id);
      const Column* const column = id == kNone ? nullptr : &cells.columns()[id];
      if (column != nullptr) resident_bytes_ += column->resident_bytes;
      if (column != nullptr && column->is_complete() && !column->has_leaving) {
        if (!in_l1_.is_over()) in_l1_.add_complete();
        anywhere_.add_complete();
        continue;
      }
      const auto is_there = [&](Row row) {
        return column != nullptr && column->cells[row].is_there();
      };
      if (!in_l1_.is_over()) in_l1_.add(is_there);
      // The position of a cell that is leaving is taken until its lock ends.
      anywhere_.add([&](Row row) {
        if (is_there(row)) return true;
        const bool is_leaving = column != nullptr && column->cells[row].is_leaving;
        return !is_leaving && elsewhere(chunk, row);
      });
    }
  }
  void run(const Cells& cells, SpaceId space, std::span<const ChunkHash> chunks,
           const Layout& layout) {
    run(cells, space, chunks, layout, [](std::uint32_t, Row) { return false; });
  }

  /// By chunk; kNone: there is no column. Ends behind the first chunk that ends every prefix.
  std::span<const ColumnId> columns() const noexcept { return columns_; }
  const Fold& in_l1() const noexcept { return in_l1_; }
  const Fold& anywhere() const noexcept { return anywhere_; }
  /// Of the columns: no lock of the prefix is on more.
  std::uint64_t resident_bytes() const noexcept { return resident_bytes_; }

 private:
  std::vector<ColumnId> columns_;
  Fold in_l1_;
  Fold anywhere_;
  std::uint64_t resident_bytes_ = 0;
};

}  // namespace larder::cache
