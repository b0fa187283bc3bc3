#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/place.h"
#include "tests/corruption/image_device.h"

namespace larder::corruption {

/// What a byte of a store belongs to, in the words of docs/format_log.md.
enum class Part : std::uint8_t {
  kSuperblock = 0,  ///< The used bytes of either copy.
  kSegmentHeader,
  kRecordHeader,  ///< MAC, fields and key of a value's header.
  kPackHeader,    ///< MAC, fields and keys of a pack's header.
  kValue,
  kTombstones,  ///< MAC, fields and keys of a tombstone grain.
  kTableEntries,
  kTableKeys,
  kTableTrailer,
  kUnused,  ///< Padding, grains that nothing was written to, stale tables, the owner note.
};
inline constexpr std::size_t kPartCount = 10;
std::string_view name_of(Part part);

/// Bytes of one file that belong together.
struct Range {
  std::string file;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  Part part = Part::kUnused;
  std::size_t record = SIZE_MAX;   ///< Of headers, values and tombstones; of a pack's, the first.
  std::size_t records = 1;         ///< From `record` on.
  std::size_t segment = SIZE_MAX;  ///< Everywhere but in the superblock; into segments().
};

/// How a store was closed decides where its index comes from (docs/format_log.md, section 4).
enum class Source : std::uint8_t {
  kNothing = 0,      ///< No header: the segment does not count.
  kTable,            ///< A sealed table.
  kCheckpoint,       ///< The checkpoint of the clean close that the superblock tells of.
  kEmptyCheckpoint,  ///< The same without entries: the segment was ready.
  kGrains,           ///< No table that counts.
};

struct SegmentInMap {
  std::string file;
  std::uint32_t number = 0;
  std::uint64_t generation = 0;
  Source source = Source::kNothing;
};

/// A value, or one tombstone grain.
struct RecordInMap {
  std::size_t segment = 0;
  log_store::Place place;
  log_store::RecordKind kind = log_store::RecordKind::kValue;
  std::vector<std::string> keys;  ///< One, but of tombstones.
  Hash128 checksum{};
  std::uint64_t value_bytes = 0;
  std::uint64_t value_at = 0;  ///< In the segment, bytes.
};

/// What a damaged store must still do.
struct Expected {
  struct Key {
    std::optional<std::size_t> record;  ///< The hit's, or none: a miss.
    bool is_damaged = false;            ///< That record is: the first Get fails, later ones miss.
    friend bool operator==(const Key&, const Key&) = default;
  };
  std::map<std::string, Key> keys;
  std::size_t segments_set_aside = 0;
  std::size_t recovered_by_scan = 0;  ///< Values and deletes that no table told of.
};

/// Every byte of an intact store, told from the format alone: read by the decode_* functions, never
/// by what an open makes of it. It says what must be left of the store when a byte is damaged:
///
///   superblock, one copy     everything: the other copy is whole
///   segment header           everything but this segment's records; what they replaced or deleted
///                            is back, as nothing else in the log tells of them
///   record header or value   in a segment with a table: this record's key fails, then misses. In a
///                            segment that is scanned: the record never was, what stood before it
///                            is back
///   header of a pack         in a segment with a table: everything, a load does not read it.
///                            Scanned: its values never were
///   tombstone grain          in a segment with a table: everything, the table tells of the
///   deletes.
///                            Scanned: these deletes never were
///   table                    everything: the grains are scanned. A sealed table's keys are not
///                            looked at by an open
///   anything else            everything
class StoreMap {
 public:
  /// An error says what in the store is not as an intact one.
  static SetupResult<StoreMap> make(const StoreImage& image);

  const log_store::Superblock& superblock() const noexcept { return superblock_; }
  const std::vector<SegmentInMap>& segments() const noexcept { return segments_; }
  const std::vector<RecordInMap>& records() const noexcept { return records_; }
  /// Without gaps and overlaps, file by file.
  const std::vector<Range>& ranges() const noexcept { return ranges_; }
  /// All keys that any record names.
  std::vector<std::string> keys() const;

  Expected intact() const { return after_damage(Range{}); }
  /// With one or more bytes of `range` damaged.
  Expected after_damage(const Range& range) const;

 private:
  SetupStatus map_superblock(const StoreImage& image);
  SetupStatus map_segment(const StoreImage& image, const std::string& name, std::uint32_t number);
  SetupStatus map_table(const std::vector<std::byte>& content);
  SetupStatus map_records(const std::vector<std::byte>& content);
  SetupStatus map_pack(const std::vector<std::byte>& content,
                       const log_store::RecordHeader& header);
  void add(Range range);
  void fill_gaps(const StoreImage& image);
  bool has_table(std::size_t segment) const;

  log_store::Superblock superblock_;
  std::vector<SegmentInMap> segments_;
  std::vector<RecordInMap> records_;  ///< In order of place.
  std::vector<Range> ranges_;
};

}  // namespace larder::corruption
