#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/mac.h"
#include "larder/base/result.h"

/// The log store's bytes on disk, as pure functions: encode into a zeroed grain, decode and verify.
/// docs/format_log.md describes every byte; golden files pin it. All numbers are little-endian.
/// Every structure starts with a 16-byte MAC over the used bytes behind it.
namespace larder::log_store {

/// A later one is refused, untouched; an earlier one is read, and raised by the next open.
/// 2: packs of values.
inline constexpr std::uint32_t kFormatMajor = 2;
inline constexpr std::uint32_t kFormatMinor = 0;  ///< A later one is read.

inline constexpr std::uint32_t kGrainBytesMin = 4096;
inline constexpr std::uint32_t kGrainBytesMax = 65536;
inline constexpr std::uint64_t kSuperblockCopyStride = kGrainBytesMax;  ///< Copies at 0 and here.
/// After the copies: a line of text about the present owner, for the next owner's message.
inline constexpr std::uint64_t kOwnerNoteOffset = 2 * kSuperblockCopyStride;
inline constexpr std::size_t kOwnerNoteBytesMax = 256;
inline constexpr std::uint64_t kSuperblockFileBytes = 3 * kSuperblockCopyStride;

using Uuid = std::array<std::uint8_t, 16>;

/// The identity and settings of one path.
struct Superblock {
  std::uint32_t format_major = kFormatMajor;  ///< Out: of the bytes that were decoded.
  Uuid store_id{};
  Uuid path_id{};
  MacKey secret{};
  std::uint64_t sequence = 0;  ///< Number of this copy; the greater one is the newer.
  std::uint32_t grain_bytes = 0;
  std::uint32_t segment_count = 0;
  std::uint64_t slot_bytes = 0;     ///< A segment's share of the capacity.
  std::uint64_t segment_bytes = 0;  ///< Length of a segment's file, a little less than its slot.
  std::uint64_t open_count = 0;
  std::uint64_t created_wall_seconds = 0;
  std::uint64_t fingerprint_seed = 0;
  bool is_clean = false;  ///< The last owner closed it; checkpoint tables of this open count count.
  // Since version 1.1; zero where they are not known.
  std::uint64_t capacity_bytes = 0;   ///< Settings of the last open, for opens that name none.
  std::uint32_t value_bytes_max = 0;  ///< The same.
  std::uint32_t segment_files = 0;    ///< If `is_clean`: how many the directory held then.
};

inline constexpr std::size_t kSuperblockUsedBytes = 160;

/// Writes one copy into `out` (>= kSuperblockUsedBytes, the rest is set to zero).
void encode_superblock(const Superblock& superblock, std::span<std::byte> out) noexcept;
/// kCorruption: no intact superblock. kUnimplemented: a superblock of a later major version, intact
/// or not; `major` is that version.
Result<Superblock> decode_superblock(std::span<const std::byte> bytes,
                                     std::uint32_t& major) noexcept;

/// The position where a structure was found; L1: it counts only if it names the same position
/// itself.
struct Identity {
  Uuid path_id{};
  std::uint32_t segment = 0;
  std::uint64_t generation = 0;
};

inline constexpr std::size_t kSegmentHeaderUsedBytes = 64;

void encode_segment_header(const Identity& identity, std::uint64_t wall_seconds,
                           const MacKey& secret, std::span<std::byte> out) noexcept;
/// The generation of the header found in segment `segment` of path `path_id`.
Result<std::uint64_t> decode_segment_header(std::span<const std::byte> bytes, const Uuid& path_id,
                                            std::uint32_t segment, const MacKey& secret) noexcept;

enum class RecordKind : std::uint8_t {
  kValue = 1,       ///< A header grain and the value.
  kTombstones = 2,  ///< A grain of deleted keys.
  kPack = 3,        ///< A header grain and several short values; in a table, one of those.
};

constexpr bool is_known(RecordKind kind) noexcept {
  return kind >= RecordKind::kValue && kind <= RecordKind::kPack;
}

inline constexpr std::size_t kRecordHeaderFixedBytes = 96;
/// Keys of one tombstone grain are each preceded by their 2-byte length.
inline constexpr std::size_t kTombstoneKeyOverhead = 2;
/// In a pack's header each key is preceded by its 2-byte length, the value's 4-byte length, and the
/// value's 16-byte checksum.
inline constexpr std::size_t kPackKeyOverhead = 22;

struct RecordHeader {
  RecordKind kind = RecordKind::kValue;
  std::uint64_t offset = 0;  ///< Of the header in the segment, bytes.
  /// Of kPack: of all values, each padded to a grain.
  std::uint64_t value_bytes = 0;
  std::uint64_t wall_seconds = 0;  ///< For information only.
  Hash128 checksum{};              ///< XXH3-128 of the value; of kPack: zero.
  /// The key, or for kTombstones and kPack the keys with what precedes each. Points into the
  /// encoded grain.
  std::span<const std::byte> payload;
};

/// Room for keys in the grain of tombstones or of a pack's header.
constexpr std::size_t payload_max(std::uint32_t grain_bytes) noexcept {
  return grain_bytes - kRecordHeaderFixedBytes;
}

/// Writes a whole grain. payload.size() <= out.size() - kRecordHeaderFixedBytes; it may be in `out`
/// already, in its place.
void encode_record_header(const RecordHeader& header, const Identity& identity,
                          const MacKey& secret, std::span<std::byte> out) noexcept;
Result<RecordHeader> decode_record_header(std::span<const std::byte> bytes,
                                          const Identity& identity, std::uint64_t offset,
                                          const MacKey& secret) noexcept;
/// Quick look that costs no MAC: could a record header start here?
bool looks_like_record_header(std::span<const std::byte> bytes) noexcept;

/// Splits the payload of a tombstone grain; kCorruption when it does not add up.
Status for_each_tombstone(std::span<const std::byte> payload,
                          void (*visit)(void* context, std::span<const std::byte> key),
                          void* context) noexcept;

/// One value of a pack. Its bytes stand behind those of the values before it, from a grain on.
struct PackedValue {
  std::span<const std::byte> key;
  std::uint32_t value_bytes = 0;  ///< More than 0.
  Hash128 checksum{};             ///< XXH3-128 of the value.
};

/// Writes one value's part of a pack's payload, kPackKeyOverhead + key.size() bytes.
void encode_packed_value(const PackedValue& value, std::span<std::byte> out) noexcept;
/// The values of a pack, from the payload of its header, into which the keys point; kCorruption
/// when it does not add up.
Result<std::vector<PackedValue>> packed_values(std::span<const std::byte> payload);

/// Vouches for a value of a pack without the pack's header: 64 bits of a MAC over its place, key,
/// length and checksum. `offset`: of its first byte in the segment.
std::uint64_t value_tag(const PackedValue& value, const Identity& identity, std::uint64_t offset,
                        const MacKey& secret) noexcept;

/// One line of a segment's table. 32 bytes on disk.
struct TableEntry {
  std::uint64_t fingerprint_low = 0;
  std::uint64_t fingerprint_high = 0;  ///< Of kPack: the value's tag.
  /// Offset of the record in the segment, in grains; of kPack: of the value.
  std::uint32_t grain = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t wall_seconds = 0;
  std::uint16_t key_bytes = 0;
  RecordKind kind = RecordKind::kValue;
  std::uint8_t reserved = 0;
};
static_assert(sizeof(TableEntry) == 32);
inline constexpr std::size_t kTableEntryBytes = sizeof(TableEntry);

/// A checkpoint table describes a segment that may be appended to later; it counts only right after
/// a clean close of the same open count.
enum class TableKind : std::uint8_t { kSealed = 1, kCheckpoint = 2 };

/// The last grain of a segment: where its table is.
struct TableTrailer {
  TableKind kind = TableKind::kSealed;
  std::uint64_t open_count = 0;
  std::uint64_t entries_offset = 0;  ///< Bytes in the segment, a grain multiple.
  std::uint64_t entry_count = 0;
  std::uint64_t keys_bytes = 0;     ///< Keys follow the entries at the next grain.
  std::uint64_t append_offset = 0;  ///< End of the records.
  Mac128 entries_mac{};
  Mac128 keys_mac{};
};

inline constexpr std::size_t kTableTrailerUsedBytes = 144;

void encode_table_trailer(const TableTrailer& trailer, const Identity& identity,
                          const MacKey& secret, std::span<std::byte> out) noexcept;
/// Checks also that the offsets and counts lie within `segment_bytes` and agree with each other.
Result<TableTrailer> decode_table_trailer(std::span<const std::byte> bytes,
                                          const Identity& identity, std::uint64_t segment_bytes,
                                          std::uint32_t grain_bytes, const MacKey& secret) noexcept;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

/// Bytes at the end of a segment that a table takes, its trailer included.
constexpr std::uint64_t table_bytes(std::uint64_t entry_count, std::uint64_t keys_bytes,
                                    std::uint32_t grain_bytes) noexcept {
  return round_up(entry_count * kTableEntryBytes, grain_bytes) + round_up(keys_bytes, grain_bytes) +
         grain_bytes;
}

/// Bytes that a value takes; in a pack without its share of the header.
constexpr std::uint64_t record_bytes(std::uint64_t value_bytes, std::uint32_t grain_bytes,
                                     RecordKind kind = RecordKind::kValue) noexcept {
  return (kind == RecordKind::kPack ? 0 : grain_bytes) + round_up(value_bytes, grain_bytes);
}

}  // namespace larder::log_store
