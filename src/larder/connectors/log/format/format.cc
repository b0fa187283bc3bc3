#include "larder/connectors/log/format/format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "larder/base/check.h"
#include "larder/connector/connector.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian and written by memcpy");

namespace {

constexpr std::size_t kMacBytes = sizeof(Mac128);
static_assert(kMacBytes == 16);

constexpr std::uint64_t kSuperblockMagic = 0x474F4C524452414CU;  // "LARDRLOG"
constexpr std::uint64_t kSegmentMagic = 0x474553524452414CU;     // "LARDRSEG"
constexpr std::uint64_t kTableMagic = 0x4C4254524452414CU;       // "LARDRTBL"
constexpr std::uint32_t kRecordMagic = 0x4345524CU;              // "LREC"
constexpr std::uint64_t kTagMagic = 0x4741545244524C50U;         // Only ever under a MAC.

/// Puts fields one behind the other behind the place of the MAC.
class FieldWriter {
 public:
  explicit FieldWriter(std::span<std::byte> out) noexcept : out_(out) {}

  template <class T>
  void put(const T& value) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    LARDER_CHECK(position_ + sizeof(T) <= out_.size());
    std::memcpy(out_.data() + position_, &value, sizeof(T));
    position_ += sizeof(T);
  }

  /// Zeroes the rest after `used_bytes` and writes the MAC.
  void seal(std::size_t used_bytes, const MacKey& secret) noexcept {
    LARDER_CHECK(position_ <= used_bytes && used_bytes <= out_.size());
    std::fill(out_.begin() + static_cast<std::ptrdiff_t>(used_bytes), out_.end(), std::byte{0});
    const Mac128 mac = mac128(secret, out_.subspan(kMacBytes, used_bytes - kMacBytes));
    std::memcpy(out_.data(), &mac, kMacBytes);
  }

 private:
  std::span<std::byte> out_;
  std::size_t position_ = kMacBytes;
};

class FieldReader {
 public:
  explicit FieldReader(std::span<const std::byte> in) noexcept : in_(in) {}

  template <class T>
  T get() noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    std::memcpy(&value, in_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

 private:
  std::span<const std::byte> in_;
  std::size_t position_ = kMacBytes;
};

bool mac_holds(std::span<const std::byte> in, std::size_t used_bytes,
               const MacKey& secret) noexcept {
  Mac128 found{};
  std::memcpy(&found, in.data(), kMacBytes);
  return found == mac128(secret, in.subspan(kMacBytes, used_bytes - kMacBytes));
}

constexpr Error corrupt(const char* what) noexcept {
  return Error{ErrorCode::kCorruption, "log format", what};
}

}  // namespace

void encode_superblock(const Superblock& superblock, std::span<std::byte> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  FieldWriter writer{out};
  writer.put(kSuperblockMagic);
  writer.put(kFormatMajor);
  writer.put(kFormatMinor);
  writer.put(superblock.store_id);
  writer.put(superblock.path_id);
  writer.put(superblock.secret);
  writer.put(superblock.sequence);
  writer.put(superblock.grain_bytes);
  writer.put(superblock.segment_count);
  writer.put(superblock.slot_bytes);
  writer.put(superblock.segment_bytes);
  writer.put(superblock.open_count);
  writer.put(superblock.created_wall_seconds);
  writer.put(superblock.fingerprint_seed);
  writer.put(static_cast<std::uint64_t>(superblock.is_clean ? 1 : 0));
  writer.put(superblock.capacity_bytes);
  writer.put(superblock.value_bytes_max);
  writer.put(superblock.segment_files);
  writer.seal(kSuperblockUsedBytes, superblock.secret);
}

Result<Superblock> decode_superblock(std::span<const std::byte> bytes,
                                     std::uint32_t& major) noexcept {
  if (bytes.size() < kSuperblockUsedBytes) return corrupt("superblock: too short");
  FieldReader reader{bytes};
  if (reader.get<std::uint64_t>() != kSuperblockMagic) return corrupt("superblock: no magic");
  major = reader.get<std::uint32_t>();
  // A later major version may keep its MAC elsewhere, so this comes before the MAC.
  if (major > kFormatMajor) {
    return Error{ErrorCode::kUnimplemented, "log format", "superblock: later major version"};
  }
  const auto minor = reader.get<std::uint32_t>();  // Any is read.
  Superblock superblock;
  superblock.format_major = major;
  superblock.store_id = reader.get<Uuid>();
  superblock.path_id = reader.get<Uuid>();
  superblock.secret = reader.get<MacKey>();
  if (!mac_holds(bytes, kSuperblockUsedBytes, superblock.secret)) {
    return corrupt("superblock: checksum");
  }
  superblock.sequence = reader.get<std::uint64_t>();
  superblock.grain_bytes = reader.get<std::uint32_t>();
  superblock.segment_count = reader.get<std::uint32_t>();
  superblock.slot_bytes = reader.get<std::uint64_t>();
  superblock.segment_bytes = reader.get<std::uint64_t>();
  superblock.open_count = reader.get<std::uint64_t>();
  superblock.created_wall_seconds = reader.get<std::uint64_t>();
  superblock.fingerprint_seed = reader.get<std::uint64_t>();
  superblock.is_clean = reader.get<std::uint64_t>() != 0;
  if (major > 1 || minor >= 1) {
    superblock.capacity_bytes = reader.get<std::uint64_t>();
    superblock.value_bytes_max = reader.get<std::uint32_t>();
    superblock.segment_files = reader.get<std::uint32_t>();
  }
  const bool is_plausible =
      std::has_single_bit(superblock.grain_bytes) && superblock.grain_bytes >= kGrainBytesMin &&
      superblock.grain_bytes <= kGrainBytesMax && superblock.segment_count > 0 &&
      superblock.segment_bytes % superblock.grain_bytes == 0 &&
      superblock.segment_bytes >= 4 * std::uint64_t{superblock.grain_bytes} &&
      superblock.segment_bytes <= superblock.slot_bytes;
  if (!is_plausible) return corrupt("superblock: sizes do not agree");
  return superblock;
}

void encode_segment_header(const Identity& identity, std::uint64_t wall_seconds,
                           const MacKey& secret, std::span<std::byte> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  FieldWriter writer{out};
  writer.put(kSegmentMagic);
  writer.put(identity.path_id);
  writer.put(identity.generation);
  writer.put(wall_seconds);
  writer.put(identity.segment);
  writer.seal(kSegmentHeaderUsedBytes, secret);
}

Result<std::uint64_t> decode_segment_header(std::span<const std::byte> bytes, const Uuid& path_id,
                                            std::uint32_t segment, const MacKey& secret) noexcept {
  if (bytes.size() < kSegmentHeaderUsedBytes) return corrupt("segment header: too short");
  FieldReader reader{bytes};
  if (reader.get<std::uint64_t>() != kSegmentMagic) return corrupt("segment header: no magic");
  if (!is_broken(Rule::kSegmentHeaderMac) && !mac_holds(bytes, kSegmentHeaderUsedBytes, secret)) {
    return corrupt("segment header: MAC");
  }
  const auto found_path = reader.get<Uuid>();
  const auto generation = reader.get<std::uint64_t>();
  reader.get<std::uint64_t>();  // Wall time.
  const auto found_segment = reader.get<std::uint32_t>();
  if ((found_path != path_id && !is_broken(Rule::kPathId)) ||
      (found_segment != segment && !is_broken(Rule::kSegmentNumber))) {
    return corrupt("segment header: of another path or segment");
  }
  return generation;
}

void encode_record_header(const RecordHeader& header, const Identity& identity,
                          const MacKey& secret, std::span<std::byte> out) noexcept {
  LARDER_CHECK(header.payload.size() <= out.size() - kRecordHeaderFixedBytes);
  // First, and by memmove: the payload may be in `out` already.
  std::memmove(out.data() + kRecordHeaderFixedBytes, header.payload.data(), header.payload.size());
  FieldWriter writer{out};
  writer.put(kRecordMagic);
  writer.put(static_cast<std::uint8_t>(header.kind));
  writer.put(std::uint8_t{0});
  writer.put(static_cast<std::uint16_t>(header.payload.size()));
  writer.put(identity.path_id);
  writer.put(identity.segment);
  writer.put(static_cast<std::uint32_t>(header.wall_seconds));
  writer.put(identity.generation);
  writer.put(header.offset);
  writer.put(header.value_bytes);
  writer.put(header.checksum);
  writer.put(std::uint64_t{0});
  writer.seal(kRecordHeaderFixedBytes + header.payload.size(), secret);
}

bool looks_like_record_header(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < kRecordHeaderFixedBytes) return false;
  return FieldReader{bytes}.get<std::uint32_t>() == kRecordMagic;
}

Result<RecordHeader> decode_record_header(std::span<const std::byte> bytes,
                                          const Identity& identity, std::uint64_t offset,
                                          const MacKey& secret) noexcept {
  if (!looks_like_record_header(bytes)) return corrupt("record header: no magic");
  FieldReader reader{bytes};
  reader.get<std::uint32_t>();
  RecordHeader header;
  header.kind = static_cast<RecordKind>(reader.get<std::uint8_t>());
  reader.get<std::uint8_t>();
  const std::size_t payload_bytes = reader.get<std::uint16_t>();
  if (payload_bytes > bytes.size() - kRecordHeaderFixedBytes) {
    return corrupt("record header: payload length");
  }
  if (!is_broken(Rule::kRecordMac) &&
      !mac_holds(bytes, kRecordHeaderFixedBytes + payload_bytes, secret)) {
    return corrupt("record header: MAC");
  }
  const auto path_id = reader.get<Uuid>();
  const auto segment = reader.get<std::uint32_t>();
  header.wall_seconds = reader.get<std::uint32_t>();
  const auto generation = reader.get<std::uint64_t>();
  header.offset = reader.get<std::uint64_t>();
  header.value_bytes = reader.get<std::uint64_t>();
  header.checksum = reader.get<Hash128>();
  if ((path_id != identity.path_id && !is_broken(Rule::kPathId)) ||
      (segment != identity.segment && !is_broken(Rule::kSegmentNumber)) ||
      (generation != identity.generation && !is_broken(Rule::kGeneration)) ||
      (header.offset != offset && !is_broken(Rule::kOffset))) {
    return corrupt("record header: of another place");
  }
  if (!is_known(header.kind)) return corrupt("record header: unknown kind");
  header.payload = bytes.subspan(kRecordHeaderFixedBytes, payload_bytes);
  return header;
}

Status for_each_tombstone(std::span<const std::byte> payload,
                          void (*visit)(void* context, std::span<const std::byte> key),
                          void* context) noexcept {
  while (!payload.empty()) {
    if (payload.size() < kTombstoneKeyOverhead) return corrupt("tombstones: length");
    std::uint16_t key_bytes = 0;
    std::memcpy(&key_bytes, payload.data(), sizeof(key_bytes));
    payload = payload.subspan(kTombstoneKeyOverhead);
    if (key_bytes == 0 || key_bytes > payload.size()) return corrupt("tombstones: key length");
    visit(context, payload.first(key_bytes));
    payload = payload.subspan(key_bytes);
  }
  return {};
}

void encode_packed_value(const PackedValue& value, std::span<std::byte> out) noexcept {
  LARDER_CHECK(out.size() >= kPackKeyOverhead + value.key.size());
  const auto key_bytes = static_cast<std::uint16_t>(value.key.size());
  std::memcpy(out.data(), &key_bytes, 2);
  std::memcpy(out.data() + 2, &value.value_bytes, 4);
  std::memcpy(out.data() + 6, &value.checksum, 16);
  std::memcpy(out.data() + kPackKeyOverhead, value.key.data(), value.key.size());
}

Result<std::vector<PackedValue>> packed_values(std::span<const std::byte> payload) {
  std::vector<PackedValue> values;
  while (!payload.empty()) {
    if (payload.size() < kPackKeyOverhead) return corrupt("pack: length");
    std::uint16_t key_bytes = 0;
    PackedValue value;
    std::memcpy(&key_bytes, payload.data(), 2);
    std::memcpy(&value.value_bytes, payload.data() + 2, 4);
    std::memcpy(&value.checksum, payload.data() + 6, 16);
    payload = payload.subspan(kPackKeyOverhead);
    if (key_bytes == 0 || key_bytes > std::min(kKeyBytesMax, payload.size()) ||
        value.value_bytes == 0) {
      return corrupt("pack: key or value length");
    }
    value.key = payload.first(key_bytes);
    values.push_back(value);
    payload = payload.subspan(key_bytes);
  }
  return values;
}

std::uint64_t value_tag(const PackedValue& value, const Identity& identity, std::uint64_t offset,
                        const MacKey& secret) noexcept {
  constexpr std::size_t kFixedBytes = 72;
  std::array<std::byte, kFixedBytes + kKeyBytesMax> input;
  LARDER_CHECK(value.key.size() <= kKeyBytesMax);
  std::size_t at = 0;
  const auto put = [&](const auto& field) {
    std::memcpy(input.data() + at, &field, sizeof(field));
    at += sizeof(field);
  };
  put(kTagMagic);
  put(identity.path_id);
  put(identity.generation);
  put(offset);
  put(std::uint64_t{identity.segment});
  put(std::uint64_t{value.value_bytes});
  put(value.checksum);
  static_assert(2 * sizeof(Hash128) + 5 * sizeof(std::uint64_t) == kFixedBytes);
  std::memcpy(input.data() + at, value.key.data(), value.key.size());
  return mac128(secret, std::span{input}.first(at + value.key.size())).low;
}

void encode_table_trailer(const TableTrailer& trailer, const Identity& identity,
                          const MacKey& secret, std::span<std::byte> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  FieldWriter writer{out};
  writer.put(kTableMagic);
  writer.put(identity.path_id);
  writer.put(identity.segment);
  writer.put(static_cast<std::uint32_t>(trailer.kind));
  writer.put(identity.generation);
  writer.put(trailer.open_count);
  writer.put(trailer.entries_offset);
  writer.put(trailer.entry_count);
  writer.put(trailer.keys_bytes);
  writer.put(trailer.append_offset);
  writer.put(trailer.entries_mac);
  writer.put(trailer.keys_mac);
  writer.seal(kTableTrailerUsedBytes, secret);
}

Result<TableTrailer> decode_table_trailer(std::span<const std::byte> bytes,
                                          const Identity& identity, std::uint64_t segment_bytes,
                                          std::uint32_t grain_bytes,
                                          const MacKey& secret) noexcept {
  if (bytes.size() < kTableTrailerUsedBytes) return corrupt("table: too short");
  FieldReader reader{bytes};
  if (reader.get<std::uint64_t>() != kTableMagic) return corrupt("table: no magic");
  if (!is_broken(Rule::kTableMac) && !mac_holds(bytes, kTableTrailerUsedBytes, secret)) {
    return corrupt("table: MAC");
  }
  const auto path_id = reader.get<Uuid>();
  const auto segment = reader.get<std::uint32_t>();
  const auto kind = reader.get<std::uint32_t>();
  const auto generation = reader.get<std::uint64_t>();
  if ((path_id != identity.path_id && !is_broken(Rule::kPathId)) ||
      (segment != identity.segment && !is_broken(Rule::kSegmentNumber)) ||
      (generation != identity.generation && !is_broken(Rule::kGeneration))) {
    return corrupt("table: of another place");
  }
  if (kind != static_cast<std::uint32_t>(TableKind::kSealed) &&
      kind != static_cast<std::uint32_t>(TableKind::kCheckpoint)) {
    return corrupt("table: unknown kind");
  }
  TableTrailer trailer;
  trailer.kind = static_cast<TableKind>(kind);
  trailer.open_count = reader.get<std::uint64_t>();
  trailer.entries_offset = reader.get<std::uint64_t>();
  trailer.entry_count = reader.get<std::uint64_t>();
  trailer.keys_bytes = reader.get<std::uint64_t>();
  trailer.append_offset = reader.get<std::uint64_t>();
  trailer.entries_mac = reader.get<Mac128>();
  trailer.keys_mac = reader.get<Mac128>();
  // Counts are bounded before they are multiplied.
  if (trailer.entry_count > segment_bytes / grain_bytes * (grain_bytes / kTombstoneKeyOverhead) ||
      trailer.keys_bytes > segment_bytes) {
    return corrupt("table: counts");
  }
  const std::uint64_t bytes_needed =
      table_bytes(trailer.entry_count, trailer.keys_bytes, grain_bytes);
  if (bytes_needed > segment_bytes || trailer.entries_offset != segment_bytes - bytes_needed ||
      trailer.append_offset > trailer.entries_offset || trailer.append_offset < grain_bytes ||
      trailer.append_offset % grain_bytes != 0) {
    return corrupt("table: offsets");
  }
  return trailer;
}

}  // namespace larder::log_store
