#include "tests/corruption/store_map.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>

#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/table.h"

namespace larder::corruption {
namespace {

using log_store::Identity;
using log_store::RecordKind;
using log_store::TableKind;

constexpr std::array<std::string_view, kPartCount> kPartNames = {
    "superblock", "segment header", "record header", "pack header",   "value",
    "tombstones", "table entries",  "table keys",    "table trailer", "unused"};

SetupError not_intact(const std::string& file, std::string_view what) {
  return {ErrorCode::kCorruption, "the store is not intact: " + file + ": " + std::string{what}};
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::string> keys_of(const log_store::RecordHeader& header) {
  if (header.kind == RecordKind::kValue) return {text_of(header.payload)};
  std::vector<std::string> keys;
  log_store::for_each_tombstone(
      header.payload,
      [](void* context, std::span<const std::byte> key) {
        static_cast<std::vector<std::string>*>(context)->push_back(text_of(key));
      },
      &keys)
      .ignore("its MAC held");
  return keys;
}

}  // namespace

std::string_view name_of(Part part) {
  return kPartNames[static_cast<std::size_t>(part)];
}

SetupResult<StoreMap> StoreMap::make(const StoreImage& image) {
  StoreMap map;
  LARDER_TRY(map.map_superblock(image));
  for (const auto& [name, file] : image.files()) {
    const auto number = log_store::segment_of_file_name(name);
    if (number) LARDER_TRY(map.map_segment(image, name, *number));
  }
  // Ranges name records by their index, which the order of place changes.
  std::vector<std::size_t> order(map.records_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return map.records_[i].place; });
  std::vector<std::size_t> rank(order.size());
  std::vector<RecordInMap> sorted;
  for (std::size_t i = 0; i < order.size(); ++i) {
    rank[order[i]] = i;
    sorted.push_back(map.records_[order[i]]);
  }
  map.records_ = std::move(sorted);
  for (Range& range : map.ranges_) {
    if (range.record != SIZE_MAX) range.record = rank[range.record];
  }
  map.fill_gaps(image);
  return map;
}

void StoreMap::add(Range range) {
  if (range.bytes > 0) ranges_.push_back(std::move(range));
}

SetupStatus StoreMap::map_superblock(const StoreImage& image) {
  const std::string name{log_store::kSuperblockFileName};
  if (!image.files().contains(name)) return not_intact(name, "is missing");
  std::uint64_t newest = 0;
  for (const std::uint64_t offset : {std::uint64_t{0}, log_store::kSuperblockCopyStride}) {
    const auto bytes = image.read(name, offset, log_store::kGrainBytesMin);
    std::uint32_t major = 0;
    const auto copy = log_store::decode_superblock(bytes, major);
    if (!copy) return not_intact(name, copy.error().what());
    if (copy->sequence >= newest) superblock_ = *copy;
    newest = superblock_.sequence;
    add({.file = name,
         .offset = offset,
         .bytes = log_store::kSuperblockUsedBytes,
         .part = Part::kSuperblock});
  }
  return {};
}

SetupStatus StoreMap::map_segment(const StoreImage& image, const std::string& name,
                                  std::uint32_t number) {
  const std::vector<std::byte> content = image.read(name);
  if (content.size() != superblock_.segment_bytes) return not_intact(name, "has another length");
  segments_.push_back({.file = name, .number = number});
  const auto generation =
      log_store::decode_segment_header(std::span{content}.first(superblock_.grain_bytes),
                                       superblock_.path_id, number, superblock_.secret);
  if (!generation) return {};
  segments_.back().generation = *generation;
  add({.file = name,
       .offset = 0,
       .bytes = log_store::kSegmentHeaderUsedBytes,
       .part = Part::kSegmentHeader,
       .segment = segments_.size() - 1});
  LARDER_TRY(map_records(content));
  return map_table(content);
}

/// Every grain that is a whole record, found as a scan finds it.
SetupStatus StoreMap::map_records(const std::vector<std::byte>& content) {
  const SegmentInMap& segment = segments_.back();
  const std::uint32_t grain = superblock_.grain_bytes;
  const Identity identity{
      .path_id = superblock_.path_id, .segment = segment.number, .generation = segment.generation};
  for (std::uint64_t at = grain; at + grain <= content.size();) {
    const auto header = log_store::decode_record_header(std::span{content}.subspan(at, grain),
                                                        identity, at, superblock_.secret);
    if (!header) {
      at += grain;
      continue;
    }
    if (header->kind == RecordKind::kPack) {
      LARDER_TRY(map_pack(content, *header));
      at += grain + header->value_bytes;
      continue;
    }
    const bool is_value = header->kind == RecordKind::kValue;
    const auto value = std::span{content}.subspan(at + grain, header->value_bytes);
    if (is_value && hash128(value) != header->checksum) {
      return not_intact(segment.file, "a value fails its checksum");
    }
    const std::size_t record = records_.size();
    records_.push_back({.segment = segments_.size() - 1,
                        .place = {.generation = segment.generation, .offset = at},
                        .kind = header->kind,
                        .keys = keys_of(*header),
                        .checksum = header->checksum,
                        .value_bytes = header->value_bytes,
                        .value_at = at + grain});
    add({.file = segment.file,
         .offset = at,
         .bytes = log_store::kRecordHeaderFixedBytes + header->payload.size(),
         .part = is_value ? Part::kRecordHeader : Part::kTombstones,
         .record = record,
         .segment = segments_.size() - 1});
    if (is_value) {
      add({.file = segment.file,
           .offset = at + grain,
           .bytes = header->value_bytes,
           .part = Part::kValue,
           .record = record,
           .segment = segments_.size() - 1});
    }
    at += is_value ? log_store::record_bytes(header->value_bytes, grain) : grain;
  }
  return {};
}

SetupStatus StoreMap::map_pack(const std::vector<std::byte>& content,
                               const log_store::RecordHeader& header) {
  const SegmentInMap& segment = segments_.back();
  const std::uint32_t grain = superblock_.grain_bytes;
  const auto values = log_store::packed_values(header.payload);
  if (!values) return not_intact(segment.file, values.error().what());
  add({.file = segment.file,
       .offset = header.offset,
       .bytes = log_store::kRecordHeaderFixedBytes + header.payload.size(),
       .part = Part::kPackHeader,
       .record = records_.size(),
       .records = values->size(),
       .segment = segments_.size() - 1});
  std::uint64_t at = header.offset + grain;
  for (const log_store::PackedValue& value : *values) {
    if (hash128(std::span{content}.subspan(at, value.value_bytes)) != value.checksum) {
      return not_intact(segment.file, "a packed value fails its checksum");
    }
    add({.file = segment.file,
         .offset = at,
         .bytes = value.value_bytes,
         .part = Part::kValue,
         .record = records_.size(),
         .segment = segments_.size() - 1});
    records_.push_back({.segment = segments_.size() - 1,
                        .place = {.generation = segment.generation, .offset = at},
                        .kind = header.kind,
                        .keys = {text_of(value.key)},
                        .checksum = value.checksum,
                        .value_bytes = value.value_bytes,
                        .value_at = at});
    at += log_store::round_up(value.value_bytes, grain);
  }
  return {};
}

SetupStatus StoreMap::map_table(const std::vector<std::byte>& content) {
  SegmentInMap& segment = segments_.back();
  const std::uint32_t grain = superblock_.grain_bytes;
  const std::uint64_t segment_bytes = superblock_.segment_bytes;
  const Identity identity{
      .path_id = superblock_.path_id, .segment = segment.number, .generation = segment.generation};
  segment.source = Source::kGrains;
  const auto trailer = log_store::decode_table_trailer(std::span{content}.last(grain), identity,
                                                       segment_bytes, grain, superblock_.secret);
  if (!trailer) return {};
  const bool is_sealed = trailer->kind == TableKind::kSealed;
  if (!is_sealed && (!superblock_.is_clean || trailer->open_count != superblock_.open_count)) {
    return {};
  }
  const log_store::Geometry geometry{.grain_bytes = grain,
                                     .segment_count = superblock_.segment_count,
                                     .slot_bytes = superblock_.slot_bytes,
                                     .segment_bytes = segment_bytes};
  const auto table =
      log_store::decode_table(*trailer, std::span{content}.subspan(trailer->entries_offset), true,
                              geometry, superblock_.secret);
  if (!table) return not_intact(segment.file, table.error().what());
  std::set<std::uint64_t> listed;
  for (const log_store::TableEntry& entry : table->entries) {
    listed.insert(std::uint64_t{entry.grain} * grain);
  }
  std::set<std::uint64_t> written;
  for (const RecordInMap& record : records_) {
    if (record.segment == segments_.size() - 1) written.insert(record.place.offset);
  }
  if (listed != written) return not_intact(segment.file, "its table misses a record");
  segment.source = is_sealed        ? Source::kTable
                   : listed.empty() ? Source::kEmptyCheckpoint
                                    : Source::kCheckpoint;
  const std::uint64_t entries_bytes = trailer->entry_count * log_store::kTableEntryBytes;
  const std::size_t index = segments_.size() - 1;
  add({.file = segment.file,
       .offset = trailer->entries_offset,
       .bytes = entries_bytes,
       .part = Part::kTableEntries,
       .segment = index});
  add({.file = segment.file,
       .offset = trailer->entries_offset + log_store::round_up(entries_bytes, grain),
       .bytes = trailer->keys_bytes,
       .part = Part::kTableKeys,
       .segment = index});
  add({.file = segment.file,
       .offset = segment_bytes - grain,
       .bytes = log_store::kTableTrailerUsedBytes,
       .part = Part::kTableTrailer,
       .segment = index});
  return {};
}

void StoreMap::fill_gaps(const StoreImage& image) {
  const auto by_place = [](const Range& range) { return std::pair{range.file, range.offset}; };
  std::ranges::sort(ranges_, {}, by_place);
  std::vector<Range> gaps;
  for (const auto& [name, file] : image.files()) {
    std::uint64_t end = 0;
    const auto add_gap = [&, &file_name = name](std::uint64_t to) {
      if (to > end) gaps.push_back({.file = file_name, .offset = end, .bytes = to - end});
    };
    for (const Range& range : ranges_) {
      if (range.file != name) continue;
      add_gap(range.offset);
      end = range.offset + range.bytes;
    }
    add_gap(file.bytes);
  }
  ranges_.insert(ranges_.end(), gaps.begin(), gaps.end());
  std::ranges::sort(ranges_, {}, by_place);
}

std::vector<std::string> StoreMap::keys() const {
  std::set<std::string> all;
  for (const RecordInMap& record : records_) all.insert(record.keys.begin(), record.keys.end());
  return {all.begin(), all.end()};
}

bool StoreMap::has_table(std::size_t segment) const {
  return segments_[segment].source == Source::kTable ||
         segments_[segment].source == Source::kCheckpoint;
}

Expected StoreMap::after_damage(const Range& range) const {
  Expected expected;
  std::size_t lost_segment = SIZE_MAX;
  bool are_records_lost = false;
  std::size_t scanned_segment = SIZE_MAX;
  switch (range.part) {
    case Part::kSegmentHeader:
      lost_segment = range.segment;
      expected.segments_set_aside = 1;
      break;
    case Part::kRecordHeader:
    case Part::kPackHeader:
    case Part::kValue:
    case Part::kTombstones:
      are_records_lost = !has_table(range.segment);
      break;
    case Part::kTableEntries:
    case Part::kTableTrailer:
      scanned_segment = range.segment;
      break;
    case Part::kTableKeys:  // A sealed segment's are not read by an open.
      if (segments_[range.segment].source == Source::kCheckpoint) scanned_segment = range.segment;
      break;
    case Part::kSuperblock:
    case Part::kUnused:
      break;
  }
  for (const std::string& key : keys()) expected.keys[key];
  for (std::size_t i = 0; i < records_.size(); ++i) {
    const RecordInMap& record = records_[i];
    const bool is_hit = i >= range.record && i - range.record < range.records;
    if (record.segment == lost_segment || (is_hit && are_records_lost)) continue;
    const bool is_scanned = record.segment == scanned_segment || !has_table(record.segment);
    for (const std::string& key : record.keys) {
      Expected::Key& now = expected.keys[key];
      now = {};
      if (record.kind != RecordKind::kTombstones) {
        now = {.record = i, .is_damaged = is_hit && range.part != Part::kPackHeader};
      }
      if (is_scanned) ++expected.recovered_by_scan;
    }
  }
  return expected;
}

}  // namespace larder::corruption
