#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/geometry.h"

namespace larder::log_store {

/// A table as read back: the records of its segment, in order of place.
struct Table {
  TableTrailer trailer;
  std::vector<TableEntry> entries;
  std::string keys;  ///< Concatenated; entry i's key starts where entry i - 1's ends.
};

/// Verifies MACs and bounds. `body` is the segment from trailer.entries_offset on, entries and
/// keys; with `with_keys` false the keys may be missing and stay empty.
Result<Table> decode_table(const TableTrailer& trailer, std::span<const std::byte> body,
                           bool with_keys, const Geometry& geometry, const MacKey& secret);

/// Collects a segment's table while it is written.
///
/// Threads: the path's one. Memory: 48 bytes a record and its key.
class TableBuilder {
 public:
  /// Bytes the table would take with one more record of `key_bytes`.
  std::uint64_t bytes_with(std::uint64_t more_entries, std::uint64_t more_key_bytes,
                           std::uint32_t grain_bytes) const noexcept {
    return table_bytes(reserved_entries_ + more_entries, reserved_key_bytes_ + more_key_bytes,
                       grain_bytes);
  }
  /// Makes room: called when a place is allocated, so that the table always fits behind the
  /// records.
  void reserve(std::uint64_t entries, std::uint64_t key_bytes) noexcept {
    reserved_entries_ += entries;
    reserved_key_bytes_ += key_bytes;
  }
  /// A record that lies completely in its segment. Reserved before.
  void add(const TableEntry& entry, std::string_view key);

  std::size_t entry_count() const noexcept { return lines_.size(); }
  /// Calls visit(entry, key) for records in order of place.
  template <class Visitor>
  void for_each(Visitor&& visit) {
    sort();
    for (const Line& line : lines_) {
      visit(line.entry, std::string_view{keys_}.substr(line.key_at, line.entry.key_bytes));
    }
  }

  /// The bytes from trailer.entries_offset to the end of the segment, ready to be written.
  Result<AlignedBuffer> encode(TableKind kind, const Identity& identity, std::uint64_t open_count,
                               std::uint64_t append_offset, const Geometry& geometry,
                               const MacKey& secret);

 private:
  struct Line {
    TableEntry entry;
    std::uint64_t key_at = 0;
  };
  void sort();

  std::vector<Line> lines_;
  std::string keys_;
  std::uint64_t reserved_entries_ = 0;
  std::uint64_t reserved_key_bytes_ = 0;
  bool is_sorted_ = true;
};

}  // namespace larder::log_store
