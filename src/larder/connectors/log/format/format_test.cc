#include "larder/connectors/log/format/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/key_text.h"

namespace larder::log_store {
namespace {

constexpr std::uint32_t kGrain = 4096;
constexpr std::uint64_t kSegmentBytes = 1U << 20;
constexpr MacKey kSecret{.k0 = 0x0706050403020100U, .k1 = 0x0F0E0D0C0B0A0908U};

Uuid uuid_from(std::uint8_t first) {
  Uuid uuid{};
  for (std::size_t i = 0; i < uuid.size(); ++i) uuid[i] = static_cast<std::uint8_t>(first + i);
  return uuid;
}

const Identity kIdentity{
    .path_id = uuid_from(0xB0), .segment = 42, .generation = (std::uint64_t{7} << 32) | 9};

using Bytes = std::vector<std::byte>;

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

std::string first_to_hex(const Bytes& bytes, std::size_t count) {
  return hex_text(std::span{bytes}.first(count));
}

Superblock some_superblock() {
  return {.store_id = uuid_from(0xA0),
          .path_id = kIdentity.path_id,
          .secret = kSecret,
          .sequence = 5,
          .grain_bytes = kGrain,
          .segment_count = 64,
          .slot_bytes = kSegmentBytes + 65536,
          .segment_bytes = kSegmentBytes,
          .open_count = 3,
          .created_wall_seconds = 1'767'225'600,
          .fingerprint_seed = 0x1122334455667788U,
          .is_clean = true,
          .capacity_bytes = std::uint64_t{200} << 30,
          .value_bytes_max = 128U << 20,
          .segment_files = 61};
}

RecordHeader some_record(std::string_view key) {
  return {.kind = RecordKind::kValue,
          .offset = std::uint64_t{17} * kGrain,
          .value_bytes = 70'000,
          .wall_seconds = 1'767'225'601,
          .checksum = {.low = 0x0102030405060708U, .high = 0x090A0B0C0D0E0F10U},
          .payload = as_bytes(key)};
}

TableTrailer some_trailer() {
  return {.kind = TableKind::kCheckpoint,
          .open_count = 3,
          .entries_offset = kSegmentBytes - table_bytes(200, 9000, kGrain),
          .entry_count = 200,
          .keys_bytes = 9000,
          .append_offset = std::uint64_t{20} * kGrain,
          .entries_mac = {.low = 0x1111111111111111U, .high = 0x2222222222222222U},
          .keys_mac = {.low = 0x3333333333333333U, .high = 0x4444444444444444U}};
}

Bytes encoded_superblock(const Superblock& superblock) {
  Bytes bytes(kGrain, std::byte{0xEE});
  encode_superblock(superblock, bytes);
  return bytes;
}

Bytes encoded_segment_header() {
  Bytes bytes(kGrain, std::byte{0xEE});
  encode_segment_header(kIdentity, 1'767'225'602, kSecret, bytes);
  return bytes;
}

Bytes encoded_record(const RecordHeader& header) {
  Bytes bytes(kGrain, std::byte{0xEE});
  encode_record_header(header, kIdentity, kSecret, bytes);
  return bytes;
}

Bytes encoded_trailer(const TableTrailer& trailer) {
  Bytes bytes(kGrain, std::byte{0xEE});
  encode_table_trailer(trailer, kIdentity, kSecret, bytes);
  return bytes;
}

/// Overwrites a field as a forger with the key would, or another version of larder.
template <class T>
void patch(Bytes& bytes, std::size_t at, T value, std::size_t used_bytes) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  const Mac128 mac = mac128(kSecret, std::span{bytes}.subspan(16, used_bytes - 16));
  std::memcpy(bytes.data(), &mac, sizeof(mac));
}

void expect_every_flipped_bit_is_refused(Bytes bytes, std::size_t used_bytes,
                                         const std::function<bool(const Bytes&)>& is_accepted) {
  ASSERT_TRUE(is_accepted(bytes));
  for (std::size_t bit = 0; bit < 8 * used_bytes; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(is_accepted(bytes)) << "bit " << bit % 8 << " of byte " << bit / 8;
    bytes[bit / 8] ^= mask;
  }
  ASSERT_TRUE(is_accepted(bytes));
}

bool is_zero_from(const Bytes& bytes, std::size_t at) {
  return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

Result<Superblock> decode_any_superblock(const Bytes& bytes) {
  std::uint32_t major = 0;
  return decode_superblock(bytes, major);
}

Result<RecordHeader> decode_record(const Bytes& bytes) {
  return decode_record_header(bytes, kIdentity, std::uint64_t{17} * kGrain, kSecret);
}

Result<TableTrailer> decode_trailer(const Bytes& bytes) {
  return decode_table_trailer(bytes, kIdentity, kSegmentBytes, kGrain, kSecret);
}

// --- Round trips --------------------------------------------------------------------------------

TEST(FormatTest, SuperblockComesBackAsItWasWritten) {
  for (const bool is_clean : {false, true}) {
    Superblock written = some_superblock();
    written.is_clean = is_clean;
    const Bytes bytes = encoded_superblock(written);
    EXPECT_TRUE(is_zero_from(bytes, kSuperblockUsedBytes));
    std::uint32_t major = 0;
    const auto read = decode_superblock(bytes, major);
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(major, kFormatMajor);
    EXPECT_EQ(read->store_id, written.store_id);
    EXPECT_EQ(read->path_id, written.path_id);
    EXPECT_EQ(read->secret.k0, written.secret.k0);
    EXPECT_EQ(read->secret.k1, written.secret.k1);
    EXPECT_EQ(read->sequence, written.sequence);
    EXPECT_EQ(read->grain_bytes, written.grain_bytes);
    EXPECT_EQ(read->segment_count, written.segment_count);
    EXPECT_EQ(read->slot_bytes, written.slot_bytes);
    EXPECT_EQ(read->segment_bytes, written.segment_bytes);
    EXPECT_EQ(read->open_count, written.open_count);
    EXPECT_EQ(read->created_wall_seconds, written.created_wall_seconds);
    EXPECT_EQ(read->fingerprint_seed, written.fingerprint_seed);
    EXPECT_EQ(read->is_clean, is_clean);
  }
}

TEST(FormatTest, SegmentHeaderTellsItsGeneration) {
  const Bytes bytes = encoded_segment_header();
  EXPECT_TRUE(is_zero_from(bytes, kSegmentHeaderUsedBytes));
  const auto generation =
      decode_segment_header(bytes, kIdentity.path_id, kIdentity.segment, kSecret);
  ASSERT_TRUE(generation.has_value());
  EXPECT_EQ(*generation, kIdentity.generation);
}

TEST(FormatTest, RecordHeaderComesBackWithKeysOfAnyLength) {
  for (const std::size_t key_bytes : {1U, 2U, 36U, 1024U, kGrain - 96U}) {
    const std::string key(key_bytes, '\xFE');
    const RecordHeader written = some_record(key);
    const Bytes bytes = encoded_record(written);
    EXPECT_TRUE(is_zero_from(bytes, kRecordHeaderFixedBytes + key_bytes));
    EXPECT_TRUE(looks_like_record_header(bytes));
    const auto read = decode_record(bytes);
    ASSERT_TRUE(read.has_value()) << key_bytes;
    EXPECT_EQ(read->kind, RecordKind::kValue);
    EXPECT_EQ(read->offset, written.offset);
    EXPECT_EQ(read->value_bytes, written.value_bytes);
    EXPECT_EQ(read->wall_seconds, written.wall_seconds);
    EXPECT_EQ(read->checksum, written.checksum);
    EXPECT_TRUE(std::ranges::equal(read->payload, as_bytes(key)));
  }
}

TEST(FormatTest, RecordHeaderMayBeEncodedAroundAPayloadInPlace) {
  Bytes bytes(kGrain, std::byte{0});
  std::memcpy(bytes.data() + kRecordHeaderFixedBytes, "in place", 8);
  RecordHeader header = some_record("");
  header.payload = std::span<const std::byte>{bytes}.subspan(kRecordHeaderFixedBytes, 8);
  encode_record_header(header, kIdentity, kSecret, bytes);
  EXPECT_EQ(bytes, encoded_record(some_record("in place")));
}

TEST(FormatTest, TombstonesComeBackInOrder) {
  const std::string payload{"\x01\0a\x03\0bcd", 8};
  std::vector<std::string> keys;
  const Status split = for_each_tombstone(
      as_bytes(payload),
      [](void* context, std::span<const std::byte> key) {
        static_cast<std::vector<std::string>*>(context)->emplace_back(
            reinterpret_cast<const char*>(key.data()), key.size());
      },
      &keys);
  EXPECT_TRUE(split.has_value());
  EXPECT_EQ(keys, (std::vector<std::string>{"a", "bcd"}));
}

TEST(FormatTest, TombstonesThatDoNotAddUpAreRefused) {
  const auto visit = [](void*, std::span<const std::byte>) {};
  const std::vector<std::string> payloads = {
      std::string{"\x01", 1},            // Half a length.
      std::string{"\x02\0a", 3},         // A key that is cut off.
      std::string{"\0\0", 2},            // An empty key.
      std::string{"\x01\0a\xFF\xFF", 5}  // A valid one, then a length beyond every limit.
  };
  for (const std::string& payload : payloads) {
    const Status split = for_each_tombstone(as_bytes(payload), visit, nullptr);
    ASSERT_FALSE(split.has_value()) << hex_text(as_bytes(payload));
    EXPECT_EQ(split.error().code(), ErrorCode::kCorruption);
  }
  EXPECT_TRUE(for_each_tombstone({}, visit, nullptr).has_value());
}

std::string pack_payload(const std::vector<PackedValue>& values) {
  std::string payload;
  for (const PackedValue& value : values) {
    Bytes bytes(kPackKeyOverhead + value.key.size());
    encode_packed_value(value, bytes);
    payload.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return payload;
}

PackedValue some_packed(std::string_view key, std::uint32_t value_bytes = 70'000) {
  return {.key = as_bytes(key),
          .value_bytes = value_bytes,
          .checksum = {.low = 0x0102030405060708U, .high = 0x090A0B0C0D0E0F10U}};
}

TEST(FormatTest, PackedValuesComeBackInOrder) {
  const std::string longest(1024, 'k');
  const std::string payload =
      pack_payload({some_packed("a"), some_packed(longest, UINT32_MAX), some_packed("bcd", 1)});
  std::vector<std::pair<std::string, std::uint32_t>> found;
  const auto split = packed_values(as_bytes(payload));
  ASSERT_TRUE(split.has_value());
  for (const PackedValue& value : *split) {
    EXPECT_EQ(value.checksum, some_packed("a").checksum);
    found.emplace_back(as_text(value.key), value.value_bytes);
  }
  EXPECT_EQ(found, (decltype(found){{"a", 70'000}, {longest, UINT32_MAX}, {"bcd", 1}}));
}

TEST(FormatTest, PackedValuesThatDoNotAddUpAreRefused) {
  const std::string good = pack_payload({some_packed("key")});
  for (std::size_t bytes = 1; bytes < good.size(); ++bytes) {
    EXPECT_FALSE(packed_values(as_bytes(good.substr(0, bytes)))) << bytes;
    EXPECT_FALSE(packed_values(as_bytes(good + good.substr(0, bytes)))) << bytes;
  }
  EXPECT_FALSE(packed_values(as_bytes(pack_payload({some_packed("")}))));
  EXPECT_FALSE(packed_values(as_bytes(pack_payload({some_packed("k", 0)}))));
  const std::string too_long(1025, 'k');
  EXPECT_FALSE(packed_values(as_bytes(pack_payload({some_packed(too_long)}))));
  EXPECT_TRUE(packed_values(as_bytes(good)).has_value());
  EXPECT_TRUE(packed_values({}).has_value());
}

constexpr std::uint64_t kValueAt = std::uint64_t{18} * kGrain;

TEST(FormatTest, ATagChangesWithAllThatItVouchesFor) {
  const PackedValue value = some_packed("key");
  const std::uint64_t tag = value_tag(value, kIdentity, kValueAt, kSecret);
  EXPECT_EQ(value_tag(value, kIdentity, kValueAt, kSecret), tag);
  const auto differs = [&](const PackedValue& other, const Identity& identity = kIdentity,
                           std::uint64_t offset = kValueAt, const MacKey& secret = kSecret) {
    return value_tag(other, identity, offset, secret) != tag;
  };
  PackedValue other = value;
  ++other.value_bytes;
  EXPECT_TRUE(differs(other));
  other = value;
  other.checksum.low ^= 1;
  EXPECT_TRUE(differs(other));
  other = value;
  other.checksum.high ^= 1;
  EXPECT_TRUE(differs(other));
  EXPECT_TRUE(differs(some_packed("kez")));
  EXPECT_TRUE(differs(some_packed(std::string_view{"key\0", 4})));
  EXPECT_TRUE(differs(value, kIdentity, kValueAt + kGrain));
  EXPECT_TRUE(differs(value, kIdentity, kValueAt, {.k0 = kSecret.k0, .k1 = kSecret.k1 ^ 1}));
  Identity identity = kIdentity;
  ++identity.segment;
  EXPECT_TRUE(differs(value, identity));
  identity = kIdentity;
  ++identity.generation;
  EXPECT_TRUE(differs(value, identity));
  identity = kIdentity;
  identity.path_id[15] ^= 1;
  EXPECT_TRUE(differs(value, identity));
}

TEST(FormatTest, TableTrailerComesBackAsItWasWritten) {
  for (const TableKind kind : {TableKind::kSealed, TableKind::kCheckpoint}) {
    TableTrailer written = some_trailer();
    written.kind = kind;
    const Bytes bytes = encoded_trailer(written);
    EXPECT_TRUE(is_zero_from(bytes, kTableTrailerUsedBytes));
    const auto read = decode_trailer(bytes);
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->kind, kind);
    EXPECT_EQ(read->open_count, written.open_count);
    EXPECT_EQ(read->entries_offset, written.entries_offset);
    EXPECT_EQ(read->entry_count, written.entry_count);
    EXPECT_EQ(read->keys_bytes, written.keys_bytes);
    EXPECT_EQ(read->append_offset, written.append_offset);
    EXPECT_EQ(read->entries_mac, written.entries_mac);
    EXPECT_EQ(read->keys_mac, written.keys_mac);
  }
}

// --- Damage (L1) --------------------------------------------------------------------------------

TEST(FormatTest, AnyFlippedBitOfASuperblockIsRefused) {
  expect_every_flipped_bit_is_refused(
      encoded_superblock(some_superblock()), kSuperblockUsedBytes,
      [](const Bytes& bytes) { return decode_any_superblock(bytes).has_value(); });
}

TEST(FormatTest, AnyFlippedBitOfASegmentHeaderIsRefused) {
  expect_every_flipped_bit_is_refused(
      encoded_segment_header(), kSegmentHeaderUsedBytes, [](const Bytes& bytes) {
        return decode_segment_header(bytes, kIdentity.path_id, kIdentity.segment, kSecret)
            .has_value();
      });
}

TEST(FormatTest, AnyFlippedBitOfARecordHeaderOrItsKeyIsRefused) {
  const std::string key = "model@1@0@fedcba9876543210";
  expect_every_flipped_bit_is_refused(
      encoded_record(some_record(key)), kRecordHeaderFixedBytes + key.size(),
      [](const Bytes& bytes) { return decode_record(bytes).has_value(); });
}

TEST(FormatTest, AnyFlippedBitOfATombstoneGrainIsRefused) {
  const std::string payload{"\x01\0a\x03\0bcd", 8};
  RecordHeader header = some_record(payload);
  header.kind = RecordKind::kTombstones;
  expect_every_flipped_bit_is_refused(
      encoded_record(header), kRecordHeaderFixedBytes + payload.size(),
      [](const Bytes& bytes) { return decode_record(bytes).has_value(); });
}

TEST(FormatTest, AnyFlippedBitOfATableTrailerIsRefused) {
  expect_every_flipped_bit_is_refused(
      encoded_trailer(some_trailer()), kTableTrailerUsedBytes,
      [](const Bytes& bytes) { return decode_trailer(bytes).has_value(); });
}

TEST(FormatTest, TruncatedBytesAreRefused) {
  const Bytes superblock = encoded_superblock(some_superblock());
  const Bytes header = encoded_segment_header();
  const Bytes record = encoded_record(some_record("key"));
  const Bytes trailer = encoded_trailer(some_trailer());
  const auto first = [](const Bytes& bytes, std::size_t count) {
    return Bytes{bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count)};
  };
  for (std::size_t count = 0; count < kSuperblockUsedBytes; ++count) {
    EXPECT_FALSE(decode_any_superblock(first(superblock, count)));
  }
  for (std::size_t count = 0; count < kSegmentHeaderUsedBytes; ++count) {
    EXPECT_FALSE(decode_segment_header(first(header, count), kIdentity.path_id, 42, kSecret));
  }
  for (std::size_t count = 0; count < kRecordHeaderFixedBytes + 3; ++count) {
    EXPECT_FALSE(decode_record(first(record, count)));
  }
  for (std::size_t count = 0; count < kTableTrailerUsedBytes; ++count) {
    EXPECT_FALSE(decode_trailer(first(trailer, count)));
  }
}

TEST(FormatTest, AllZeroAndAllOneBytesAreNothing) {
  for (const std::byte filling : {std::byte{0}, std::byte{0xFF}}) {
    const Bytes bytes(kGrain, filling);
    EXPECT_FALSE(decode_any_superblock(bytes));
    EXPECT_FALSE(decode_segment_header(bytes, kIdentity.path_id, 42, kSecret));
    EXPECT_FALSE(looks_like_record_header(bytes));
    EXPECT_FALSE(decode_record(bytes));
    EXPECT_FALSE(decode_trailer(bytes));
  }
}

// --- Another place (L1) -------------------------------------------------------------------------

TEST(FormatTest, SegmentHeaderOfAnotherPlaceOrKeyIsRefused) {
  const Bytes bytes = encoded_segment_header();
  EXPECT_FALSE(decode_segment_header(bytes, uuid_from(0xB1), 42, kSecret));
  EXPECT_FALSE(decode_segment_header(bytes, kIdentity.path_id, 43, kSecret));
  EXPECT_FALSE(decode_segment_header(bytes, kIdentity.path_id, 42, {.k0 = kSecret.k0, .k1 = 0}));
}

TEST(FormatTest, RecordOfAnotherPlaceOrKeyIsRefused) {
  const Bytes bytes = encoded_record(some_record("key"));
  const std::uint64_t offset = std::uint64_t{17} * kGrain;
  ASSERT_TRUE(decode_record_header(bytes, kIdentity, offset, kSecret));
  Identity other = kIdentity;
  other.path_id[15] ^= 1U;
  EXPECT_FALSE(decode_record_header(bytes, other, offset, kSecret));
  other = kIdentity;
  ++other.segment;
  EXPECT_FALSE(decode_record_header(bytes, other, offset, kSecret));
  other = kIdentity;
  --other.generation;
  EXPECT_FALSE(decode_record_header(bytes, other, offset, kSecret));
  EXPECT_FALSE(decode_record_header(bytes, kIdentity, offset + kGrain, kSecret));
  EXPECT_FALSE(decode_record_header(bytes, kIdentity, offset, {.k0 = 0, .k1 = kSecret.k1}));
}

TEST(FormatTest, TableOfAnotherPlaceOrKeyIsRefused) {
  const Bytes bytes = encoded_trailer(some_trailer());
  Identity other = kIdentity;
  other.path_id[0] ^= 1U;
  EXPECT_FALSE(decode_table_trailer(bytes, other, kSegmentBytes, kGrain, kSecret));
  other = kIdentity;
  ++other.segment;
  EXPECT_FALSE(decode_table_trailer(bytes, other, kSegmentBytes, kGrain, kSecret));
  other = kIdentity;
  ++other.generation;
  EXPECT_FALSE(decode_table_trailer(bytes, other, kSegmentBytes, kGrain, kSecret));
  EXPECT_FALSE(decode_table_trailer(bytes, kIdentity, kSegmentBytes, kGrain, {}));
}

// --- Well signed and still wrong ----------------------------------------------------------------

TEST(FormatTest, SuperblockWithSizesThatDoNotAgreeIsRefused) {
  const auto is_refused = [](void (*change)(Superblock&)) {
    Superblock superblock = some_superblock();
    change(superblock);
    const auto read = decode_any_superblock(encoded_superblock(superblock));
    return !read && read.error().code() == ErrorCode::kCorruption;
  };
  EXPECT_TRUE(is_refused([](Superblock& s) { s.grain_bytes = 0; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.grain_bytes = 2048; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.grain_bytes = 12288; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.grain_bytes = 131072; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.segment_count = 0; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.segment_bytes += 512; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.segment_bytes = 0; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.segment_bytes = std::uint64_t{3} * kGrain; }));
  EXPECT_TRUE(is_refused([](Superblock& s) { s.slot_bytes = s.segment_bytes - 1; }));
}

TEST(FormatTest, UnknownKindsAreRefused) {
  const std::size_t record_used = kRecordHeaderFixedBytes + 3;
  for (const unsigned kind : {0U, 4U, 255U}) {
    Bytes record = encoded_record(some_record("key"));
    patch(record, 20, static_cast<std::uint8_t>(kind), record_used);
    EXPECT_FALSE(decode_record(record)) << kind;
    Bytes trailer = encoded_trailer(some_trailer());
    patch(trailer, 44, std::uint32_t{kind}, kTableTrailerUsedBytes);
    EXPECT_FALSE(decode_trailer(trailer)) << kind;
  }
}

TEST(FormatTest, KeyLengthBeyondTheGrainIsRefusedBeforeItIsRead) {
  Bytes bytes = encoded_record(some_record("key"));
  for (const unsigned length : {kGrain - 96U + 1U, 65535U}) {
    const auto payload_bytes = static_cast<std::uint16_t>(length);
    std::memcpy(bytes.data() + 22, &payload_bytes, sizeof(payload_bytes));
    EXPECT_FALSE(decode_record(bytes));
  }
}

TEST(FormatTest, HostileCountsInATrailerAreRefusedWithoutOverflow) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  struct Field {
    std::size_t at;
    std::uint64_t good;
  };
  const TableTrailer good = some_trailer();
  const std::vector<Field> fields = {{64, good.entries_offset},
                                     {72, good.entry_count},
                                     {80, good.keys_bytes},
                                     {88, good.append_offset}};
  for (const Field& field : fields) {
    std::vector<std::uint64_t> values = {
        kMax,      kMax - 1,      kMax - kGrain, kMax - kGrain + 1, kMax / 2,
        kMax / 32, kMax / 32 + 1, kSegmentBytes, kSegmentBytes + 1};
    for (unsigned shift = 40; shift < 64; ++shift) values.push_back(std::uint64_t{1} << shift);
    // Wraps around to the good number of bytes when it is multiplied by 32.
    values.push_back(field.good + (std::uint64_t{1} << 59));
    for (const std::uint64_t value : values) {
      Bytes bytes = encoded_trailer(good);
      patch(bytes, field.at, value, kTableTrailerUsedBytes);
      const auto read = decode_trailer(bytes);
      EXPECT_FALSE(read) << "field at " << field.at << ": " << value;
    }
  }
}

TEST(FormatTest, AppendOffsetOutsideTheRecordsIsRefused) {
  const TableTrailer good = some_trailer();
  for (const std::uint64_t append_offset :
       {std::uint64_t{0}, std::uint64_t{kGrain - 1}, std::uint64_t{kGrain + 1},
        good.entries_offset + kGrain}) {
    TableTrailer trailer = good;
    trailer.append_offset = append_offset;
    EXPECT_FALSE(decode_trailer(encoded_trailer(trailer))) << append_offset;
  }
  for (const std::uint64_t append_offset : {std::uint64_t{kGrain}, good.entries_offset}) {
    TableTrailer trailer = good;
    trailer.append_offset = append_offset;
    EXPECT_TRUE(decode_trailer(encoded_trailer(trailer))) << append_offset;
  }
}

// --- Versions -----------------------------------------------------------------------------------

TEST(FormatTest, LaterMajorVersionIsRefusedAndToldWhateverElseChanged) {
  for (const std::uint32_t later : {kFormatMajor + 1, 77U, 0xFFFFFFFFU}) {
    Bytes bytes = encoded_superblock(some_superblock());
    std::memcpy(bytes.data() + 24, &later, sizeof(later));
    std::fill(bytes.begin() + 32, bytes.end(), std::byte{0x5A});  // Its MAC may be elsewhere.
    std::uint32_t major = 0;
    const auto read = decode_superblock(bytes, major);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), ErrorCode::kUnimplemented);
    EXPECT_EQ(major, later);
  }
}

TEST(FormatTest, TheFirstMajorVersionIsRead) {
  Bytes bytes = encoded_superblock(some_superblock());
  patch(bytes, 24, std::uint32_t{1}, kSuperblockUsedBytes);
  patch(bytes, 28, std::uint32_t{1}, kSuperblockUsedBytes);
  const auto read = decode_any_superblock(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->format_major, 1U);
  EXPECT_EQ(read->capacity_bytes, some_superblock().capacity_bytes);
  EXPECT_EQ(decode_any_superblock(encoded_superblock(*read))->format_major, kFormatMajor);
}

TEST(FormatTest, TheFirstMinorVersionRemembersNothing) {
  Bytes bytes = encoded_superblock(some_superblock());
  patch(bytes, 24, std::uint32_t{1}, kSuperblockUsedBytes);
  patch(bytes, 28, std::uint32_t{0}, kSuperblockUsedBytes);
  const auto read = decode_any_superblock(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->open_count, some_superblock().open_count);
  EXPECT_EQ(read->capacity_bytes, 0U);
  EXPECT_EQ(read->value_bytes_max, 0U);
  EXPECT_EQ(read->segment_files, 0U);
}

TEST(FormatTest, LaterMinorVersionIsRead) {
  Bytes bytes = encoded_superblock(some_superblock());
  patch(bytes, 28, kFormatMinor + 3, kSuperblockUsedBytes);
  const auto read = decode_any_superblock(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->open_count, some_superblock().open_count);
  EXPECT_EQ(read->capacity_bytes, some_superblock().capacity_bytes);
}

// --- The bytes themselves -----------------------------------------------------------------------
// They change with the major version and with nothing else: see docs/format_log.md.

TEST(FormatTest, SuperblockHasTheseBytes) {
  EXPECT_EQ(first_to_hex(encoded_superblock(some_superblock()), kSuperblockUsedBytes),
            "e2311a727c4e89309fc26e0d9535bd9f4c415244524c4f470200000000000000"
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
            "000102030405060708090a0b0c0d0e0f05000000000000000010000040000000"
            "00001100000000000000100000000000030000000000000000b9556900000000"
            "887766554433221101000000000000000000000032000000000000083d000000");
}

TEST(FormatTest, SegmentHeaderHasTheseBytes) {
  EXPECT_EQ(first_to_hex(encoded_segment_header(), kSegmentHeaderUsedBytes),
            "7153c78d624f71091f5e8395dd02c6ae4c41524452534547b0b1b2b3b4b5b6b7"
            "b8b9babbbcbdbebf090000000700000002b95569000000002a00000000000000");
}

TEST(FormatTest, RecordHeaderHasTheseBytes) {
  const Bytes bytes = encoded_record(some_record("model@1@0@fedcba9876543210"));
  EXPECT_EQ(first_to_hex(bytes, kRecordHeaderFixedBytes + 26),
            "7c1bd4af0870049463272ce5e1e8380d4c52454301001a00b0b1b2b3b4b5b6b7"
            "b8b9babbbcbdbebf2a00000001b9556909000000070000000010010000000000"
            "70110100000000000807060504030201100f0e0d0c0b0a090000000000000000"
            "6d6f64656c403140304066656463626139383736353433323130");
}

TEST(FormatTest, TombstoneGrainHasTheseBytes) {
  RecordHeader header = some_record(std::string_view{"\x01\0a\x03\0bcd", 8});
  header.kind = RecordKind::kTombstones;
  header.value_bytes = 0;
  header.checksum = {};
  EXPECT_EQ(first_to_hex(encoded_record(header), kRecordHeaderFixedBytes + 8),
            "39d0785b5661dbc6ca046db406be91574c52454302000800b0b1b2b3b4b5b6b7"
            "b8b9babbbcbdbebf2a00000001b9556909000000070000000010010000000000"
            "0000000000000000000000000000000000000000000000000000000000000000"
            "0100610300626364");
}

TEST(FormatTest, PackHeaderAndTagHaveTheseBytes) {
  const std::string payload = pack_payload({some_packed("a"), some_packed("bcd", 1)});
  RecordHeader header = some_record(payload);
  header.kind = RecordKind::kPack;
  header.value_bytes = 77'824;
  header.checksum = {};
  EXPECT_EQ(first_to_hex(encoded_record(header), kRecordHeaderFixedBytes + payload.size()),
            "79a5a10da995d5d49219a463d7ed09594c52454303003000b0b1b2b3b4b5b6b7"
            "b8b9babbbcbdbebf2a00000001b9556909000000070000000010010000000000"
            "0030010000000000000000000000000000000000000000000000000000000000"
            "0100701101000807060504030201100f0e0d0c0b0a0961030001000000080706"
            "0504030201100f0e0d0c0b0a09626364");
  EXPECT_EQ(value_tag(some_packed("a"), kIdentity, kValueAt, kSecret), 7253065546337736359U);
}

TEST(FormatTest, TableTrailerHasTheseBytes) {
  EXPECT_EQ(first_to_hex(encoded_trailer(some_trailer()), kTableTrailerUsedBytes),
            "29601b6a2860acc9045a4eb88d270c3e4c4152445254424cb0b1b2b3b4b5b6b7"
            "b8b9babbbcbdbebf2a0000000200000009000000070000000300000000000000"
            "00a00f0000000000c80000000000000028230000000000000040010000000000"
            "1111111111111111222222222222222233333333333333334444444444444444"
            "00000000000000000000000000000000");
}

TEST(FormatTest, TableEntryHasTheseBytes) {
  const TableEntry entry{.fingerprint_low = 0x1122334455667788U,
                         .fingerprint_high = 0x99AABBCCDDEEFF00U,
                         .grain = 17,
                         .value_bytes = 70'000,
                         .wall_seconds = 1'767'225'601,
                         .key_bytes = 26,
                         .kind = RecordKind::kValue};
  EXPECT_EQ(hex_text(std::as_bytes(std::span{&entry, 1})),
            "887766554433221100ffeeddccbbaa99110000007011010001b955691a000100");
}

// --- Sizes --------------------------------------------------------------------------------------

TEST(FormatTest, RecordsAndTablesTakeWholeGrains) {
  EXPECT_EQ(record_bytes(0, kGrain), kGrain);
  EXPECT_EQ(record_bytes(1, kGrain), 2 * kGrain);
  EXPECT_EQ(record_bytes(kGrain, kGrain), 2 * kGrain);
  EXPECT_EQ(record_bytes(kGrain + 1, kGrain), 3 * kGrain);
  EXPECT_EQ(record_bytes(1, kGrain, RecordKind::kPack), kGrain);
  EXPECT_EQ(record_bytes(kGrain + 1, kGrain, RecordKind::kPack), 2 * kGrain);
  EXPECT_EQ(table_bytes(0, 0, kGrain), kGrain);
  EXPECT_EQ(table_bytes(1, 1, kGrain), 3 * kGrain);
  EXPECT_EQ(table_bytes(128, kGrain, kGrain), 3 * kGrain);
  EXPECT_EQ(table_bytes(129, kGrain + 1, kGrain), 5 * kGrain);
}

}  // namespace
}  // namespace larder::log_store
