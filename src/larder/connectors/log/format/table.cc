#include "larder/connectors/log/format/table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "larder/base/check.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

Result<Table> decode_table(const TableTrailer& trailer, std::span<const std::byte> body,
                           bool with_keys, const Geometry& geometry, const MacKey& secret) {
  const std::uint64_t entries_bytes = trailer.entry_count * kTableEntryBytes;
  const std::uint64_t keys_at = round_up(entries_bytes, geometry.grain_bytes);
  if (body.size() < entries_bytes || (with_keys && body.size() < keys_at + trailer.keys_bytes)) {
    return Error{ErrorCode::kCorruption, "log table", "body too short"};
  }
  const auto entries = body.first(entries_bytes);
  if (!is_broken(Rule::kTableMac) && mac128(secret, entries) != trailer.entries_mac) {
    return Error{ErrorCode::kCorruption, "log table", "entries: MAC"};
  }
  Table table;
  table.trailer = trailer;
  table.entries.resize(trailer.entry_count);
  if (entries_bytes > 0) std::memcpy(table.entries.data(), entries.data(), entries_bytes);
  std::uint64_t keys_bytes = 0;
  std::uint64_t last_grain = 0;
  for (const TableEntry& entry : table.entries) {
    const bool is_tombstone = entry.kind == RecordKind::kTombstones;
    const std::uint64_t end =
        std::uint64_t{entry.grain} * geometry.grain_bytes +
        record_bytes(is_tombstone ? 0 : entry.value_bytes, geometry.grain_bytes, entry.kind);
    const bool is_empty_packed = entry.kind == RecordKind::kPack && entry.value_bytes == 0;
    if (!is_known(entry.kind) || is_empty_packed || entry.grain == 0 || entry.grain < last_grain ||
        end > trailer.append_offset) {
      return Error{ErrorCode::kCorruption, "log table", "entry out of bounds"};
    }
    last_grain = entry.grain;
    keys_bytes += entry.key_bytes;
  }
  if (keys_bytes != trailer.keys_bytes) {
    return Error{ErrorCode::kCorruption, "log table", "key lengths do not add up"};
  }
  if (with_keys) {
    const auto keys = body.subspan(keys_at, trailer.keys_bytes);
    if (!is_broken(Rule::kTableMac) && mac128(secret, keys) != trailer.keys_mac) {
      return Error{ErrorCode::kCorruption, "log table", "keys: MAC"};
    }
    table.keys.assign(reinterpret_cast<const char*>(keys.data()), keys.size());
  }
  return table;
}

void TableBuilder::add(const TableEntry& entry, std::string_view key) {
  LARDER_CHECK(key.size() == entry.key_bytes && lines_.size() < reserved_entries_);
  is_sorted_ = is_sorted_ && (lines_.empty() || lines_.back().entry.grain <= entry.grain);
  lines_.push_back({.entry = entry, .key_at = keys_.size()});
  keys_ += key;
}

void TableBuilder::sort() {
  if (is_sorted_) return;
  // Deletes of one grain stay in the order in which they came.
  std::ranges::sort(lines_, {},
                    [](const Line& line) { return std::pair{line.entry.grain, line.key_at}; });
  is_sorted_ = true;
}

Result<AlignedBuffer> TableBuilder::encode(TableKind kind, const Identity& identity,
                                           std::uint64_t open_count, std::uint64_t append_offset,
                                           const Geometry& geometry, const MacKey& secret) {
  sort();
  const std::uint64_t bytes = table_bytes(lines_.size(), keys_.size(), geometry.grain_bytes);
  LARDER_ASSIGN(AlignedBuffer buffer, AlignedBuffer::create(bytes, geometry.grain_bytes));
  const std::uint64_t entries_bytes = lines_.size() * kTableEntryBytes;
  std::byte* const entries_at = buffer.data();
  std::byte* const keys_at = buffer.data() + round_up(entries_bytes, geometry.grain_bytes);
  std::byte* entry_out = entries_at;
  std::byte* key_out = keys_at;
  for (const Line& line : lines_) {
    std::memcpy(entry_out, &line.entry, kTableEntryBytes);
    entry_out += kTableEntryBytes;
    std::memcpy(key_out, keys_.data() + line.key_at, line.entry.key_bytes);
    key_out += line.entry.key_bytes;
  }
  TableTrailer trailer;
  trailer.kind = kind;
  trailer.open_count = open_count;
  trailer.entries_offset = geometry.segment_bytes - bytes;
  trailer.entry_count = lines_.size();
  trailer.keys_bytes = keys_.size();
  trailer.append_offset = append_offset;
  trailer.entries_mac = mac128(secret, {entries_at, entries_bytes});
  trailer.keys_mac = mac128(secret, {keys_at, keys_.size()});
  encode_table_trailer(trailer, identity, secret, buffer.span().last(geometry.grain_bytes));
  return buffer;
}

}  // namespace larder::log_store
