#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/cache/policies/column_records.h"

namespace larder::cache {

/// A queue of columns: they enter at the hot end, leave from anywhere, and are read from the cold
/// end on, without the hidden ones.
///
/// Why not a linked list: a column that was hidden must return to the position of its last use, and
/// a list would have to be searched for that position, or be walked over hidden columns at each
/// look (up to 80 % of the cache is locked). Here the queue is an array in which a column keeps its
/// place until it moves, and a bitmap says which places have a visible column. Hiding and showing
/// flip a bit; the next visible column is found through levels of 64 bits to the bit. Places grow
/// towards the hot end, and leave holes behind. A sweep closes them: it starts when
///   three quarters of the places are taken, and each push then looks at eight places from the cold
///   end on, so that no call does more than that.
/// Invariants: a column's record has its place; a bit is set exactly where a visible column is.
///   There are three places or more for each column, so a sweep ends before they run out.
/// Threads: one. Cost: O(1), and O(log64 columns) for the next visible one. Memory: 12 to 25 bytes
///   for each column that there was room for. Only reserve() allocates, and it alone walks all
///   columns, when their number has doubled.
class ColumnOrder {
 public:
  using Place = std::uint32_t;
  static constexpr Place kEnd = 0xFFFF'FFFF;
  static constexpr ColumnId kNoColumn = 0xFFFF'FFFF;

  explicit ColumnOrder(ColumnRecords& records) noexcept : records_(&records) {}

  /// Room for so many columns.
  void reserve(std::size_t columns);
  /// To the hot end, visible or hidden as its record says. It is in no queue. May change the places
  /// of others.
  void push(ColumnId column) noexcept;
  void remove(ColumnId column) noexcept;
  void hide(ColumnId column) noexcept { clear_bit(record(column).place); }
  void show(ColumnId column) noexcept { set_bit(record(column).place); }
  /// Called before its record changes.
  void resize(ColumnId column, std::uint64_t bytes) noexcept {
    bytes_ += bytes - record(column).bytes;
  }

  /// The coldest visible column at this place or nearer to the hot end; kEnd: there is none.
  Place visible_from(Place place) const noexcept;
  /// kNoColumn: its column has left.
  ColumnId at(Place place) const noexcept { return columns_[place]; }
  /// For samples: positions below it may have columns.
  std::size_t places() const noexcept { return next_place_; }

  std::size_t size() const noexcept { return size_; }      ///< Hidden ones, too.
  std::uint64_t bytes() const noexcept { return bytes_; }  ///< Of all of them.
  std::uint64_t steps() const noexcept { return steps_; }  ///< Words that visible_from() has read.

 private:
  static constexpr std::size_t kSweepPlaces = 8;  ///< For each push.

  ColumnRecord& record(ColumnId column) noexcept { return (*records_)[column]; }

  void set_bit(Place place) noexcept;
  void clear_bit(Place place) noexcept;
  void sweep(std::size_t places) noexcept;

  ColumnRecords* records_;
  std::vector<ColumnId> columns_;  ///< By position; kNoColumn: its column has left.
  /// [0]: a bit for each position; [i + 1]: a bit for each word of [i] that is not 0. The last is
  /// one word.
  std::vector<std::vector<std::uint64_t>> levels_;
  Place next_place_ = 0;
  /// During a sweep: [0, to) was swept, and [to, from) has holes only.
  bool is_sweeping_ = false;
  Place sweep_to_ = 0;
  Place sweep_from_ = 0;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
  mutable std::uint64_t steps_ = 0;
};

}  // namespace larder::cache
