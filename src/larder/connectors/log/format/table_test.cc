#include "larder/connectors/log/format/table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace larder::log_store {
namespace {

constexpr std::uint32_t kGrain = 4096;
constexpr MacKey kSecret{.k0 = 1, .k1 = 2};
const Geometry kGeometry{.grain_bytes = kGrain,
                         .segment_count = 32,
                         .slot_bytes = (1U << 20) + 65536,
                         .segment_bytes = 1U << 20};
const Identity kIdentity{.path_id = {7}, .segment = 3, .generation = 5};
constexpr std::uint64_t kAppendOffset = std::uint64_t{40} * kGrain;

TableEntry value_at(std::uint32_t grain, std::uint32_t value_bytes, std::string_view key) {
  return {.fingerprint_low = grain * 11ULL,
          .fingerprint_high = grain * 13ULL,
          .grain = grain,
          .value_bytes = value_bytes,
          .wall_seconds = 99,
          .key_bytes = static_cast<std::uint16_t>(key.size()),
          .kind = RecordKind::kValue};
}

TableEntry tombstone_at(std::uint32_t grain, std::string_view key) {
  TableEntry entry = value_at(grain, 0, key);
  entry.kind = RecordKind::kTombstones;
  return entry;
}

void add(TableBuilder& builder, const TableEntry& entry, std::string_view key) {
  builder.reserve(1, key.size());
  builder.add(entry, key);
}

/// A table on its way through the disk: the encoded bytes, taken apart again.
struct Encoded {
  explicit Encoded(TableBuilder& builder, std::uint64_t append_offset = kAppendOffset) {
    auto encoded =
        builder.encode(TableKind::kSealed, kIdentity, 4, append_offset, kGeometry, kSecret);
    EXPECT_TRUE(encoded.has_value());
    bytes.assign(encoded->span().begin(), encoded->span().end());
  }

  Result<Table> decode(bool with_keys = true) const {
    LARDER_ASSIGN(const TableTrailer trailer,
                  decode_table_trailer(std::span{bytes}.last(kGrain), kIdentity,
                                       kGeometry.segment_bytes, kGrain, kSecret));
    const std::uint64_t entries_bytes = trailer.entry_count * kTableEntryBytes;
    const std::span<const std::byte> body = std::span{bytes}.first(bytes.size() - kGrain);
    return decode_table(trailer, with_keys ? body : body.first(entries_bytes), with_keys, kGeometry,
                        kSecret);
  }

  std::vector<std::byte> bytes;
};

std::vector<std::pair<std::uint32_t, std::string>> places_of(const Table& table) {
  std::vector<std::pair<std::uint32_t, std::string>> places;
  std::size_t key_at = 0;
  for (const TableEntry& entry : table.entries) {
    places.emplace_back(entry.grain, table.keys.substr(key_at, entry.key_bytes));
    key_at += entry.key_bytes;
  }
  return places;
}

TEST(TableTest, EntriesAndKeysComeBackInOrderOfPlaceWhateverOrderTheyWereAddedIn) {
  TableBuilder builder;
  add(builder, value_at(9, 5000, "ninth"), "ninth");
  add(builder, value_at(1, 0, "first"), "first");
  add(builder, tombstone_at(20, "b"), "b");
  add(builder, tombstone_at(20, "a"), "a");
  add(builder, value_at(5, 4096, "fifth"), "fifth");

  const auto table = Encoded{builder}.decode();

  ASSERT_TRUE(table.has_value()) << table.error().to_string();
  EXPECT_EQ(places_of(*table),
            (std::vector<std::pair<std::uint32_t, std::string>>{
                {1, "first"}, {5, "fifth"}, {9, "ninth"}, {20, "b"}, {20, "a"}}));
  EXPECT_EQ(table->trailer.open_count, 4U);
  EXPECT_EQ(table->trailer.append_offset, kAppendOffset);
  EXPECT_EQ(table->entries[1].value_bytes, 4096U);
  EXPECT_EQ(table->entries[1].fingerprint_high, 5U * 13U);
  EXPECT_EQ(table->entries[1].wall_seconds, 99U);
  EXPECT_EQ(table->entries[3].kind, RecordKind::kTombstones);
}

TEST(TableTest, AnEmptyTableIsATrailerAlone) {
  TableBuilder builder;
  const Encoded encoded{builder, kGrain};
  EXPECT_EQ(encoded.bytes.size(), kGrain);
  const auto table = encoded.decode();
  ASSERT_TRUE(table.has_value());
  EXPECT_TRUE(table->entries.empty());
  EXPECT_TRUE(table->keys.empty());
}

TEST(TableTest, KeysAreNotNeededToReadTheEntries) {
  TableBuilder builder;
  add(builder, value_at(1, 10, "key"), "key");
  const auto table = Encoded{builder}.decode(false);
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(table->entries.size(), 1U);
  EXPECT_TRUE(table->keys.empty());
}

TEST(TableTest, WhatIsReservedIsAtLeastWhatIsWritten) {
  TableBuilder builder;
  for (std::uint32_t i = 0; i < 300; ++i) {
    const std::string key(1 + i % 50, 'k');
    const std::uint64_t expected = builder.bytes_with(1, key.size(), kGrain);
    add(builder, value_at(1 + i / 10, 0, key), key);
    EXPECT_EQ(builder.bytes_with(0, 0, kGrain), expected);
  }
  builder.reserve(1, 1024);  // A record whose write failed leaves its share unused.
  EXPECT_LE(Encoded{builder}.bytes.size(), builder.bytes_with(0, 0, kGrain));
}

TEST(TableTest, ABuilderListsItsRecordsInOrderOfPlace) {
  TableBuilder builder;
  add(builder, value_at(3, 1, "c"), "c");
  add(builder, value_at(2, 1, "b"), "b");
  std::string keys;
  builder.for_each([&](const TableEntry& entry, std::string_view key) {
    EXPECT_EQ(entry.grain, key == "b" ? 2U : 3U);
    keys += key;
  });
  EXPECT_EQ(keys, "bc");
  EXPECT_EQ(builder.entry_count(), 2U);
  add(builder, value_at(1, 1, "a"), "a");  // It continues to grow after that.
  keys.clear();
  builder.for_each([&](const TableEntry&, std::string_view key) { keys += key; });
  EXPECT_EQ(keys, "abc");
}

TEST(TableTest, AnyFlippedBitOfEntriesOrKeysIsRefused) {
  TableBuilder builder;
  add(builder, value_at(1, 10, "first"), "first");
  add(builder, tombstone_at(4, "second"), "second");
  Encoded encoded{builder};
  const auto expect_refused = [&](std::size_t from, std::size_t count) {
    for (std::size_t bit = 8 * from; bit < 8 * (from + count); ++bit) {
      const auto mask = static_cast<std::byte>(1U << (bit % 8));
      encoded.bytes[bit / 8] ^= mask;
      EXPECT_FALSE(encoded.decode().has_value()) << "bit " << bit % 8 << " of byte " << bit / 8;
      encoded.bytes[bit / 8] ^= mask;
    }
  };
  expect_refused(0, 2 * kTableEntryBytes);
  expect_refused(kGrain, 11);
  EXPECT_TRUE(encoded.decode().has_value());
}

TEST(TableTest, ABodyThatIsTooShortIsRefused) {
  TableBuilder builder;
  add(builder, value_at(1, 10, "first"), "first");
  const Encoded encoded{builder};
  const auto trailer = decode_table_trailer(std::span{encoded.bytes}.last(kGrain), kIdentity,
                                            kGeometry.segment_bytes, kGrain, kSecret);
  ASSERT_TRUE(trailer.has_value());
  const std::span<const std::byte> bytes{encoded.bytes};
  EXPECT_FALSE(decode_table(*trailer, {}, false, kGeometry, kSecret));
  EXPECT_FALSE(
      decode_table(*trailer, bytes.first(kTableEntryBytes - 1), false, kGeometry, kSecret));
  EXPECT_FALSE(decode_table(*trailer, bytes.first(kTableEntryBytes), true, kGeometry, kSecret));
  EXPECT_FALSE(decode_table(*trailer, bytes.first(kGrain + 4), true, kGeometry, kSecret));
  EXPECT_TRUE(decode_table(*trailer, bytes.first(kGrain + 5), true, kGeometry, kSecret));
}

/// A table of validly signed entries that larder would not write.
Result<Table> decode_forged(const std::vector<TableEntry>& entries, std::uint64_t keys_bytes) {
  TableTrailer trailer;
  trailer.entry_count = entries.size();
  trailer.keys_bytes = keys_bytes;
  trailer.append_offset = kAppendOffset;
  const auto body = std::as_bytes(std::span{entries});
  trailer.entries_mac = mac128(kSecret, body);
  return decode_table(trailer, body, false, kGeometry, kSecret);
}

TEST(TableTest, EntriesOutsideTheRecordsAreRefusedAlsoWhenTheyAreSigned) {
  const TableEntry good = value_at(39, 0, "k");
  EXPECT_TRUE(decode_forged({good}, 1));
  EXPECT_FALSE(decode_forged({value_at(0, 0, "k")}, 1)) << "on the segment's header";
  EXPECT_FALSE(decode_forged({value_at(39, 1, "k")}, 1)) << "value beyond the append offset";
  EXPECT_FALSE(decode_forged({value_at(40, 0, "k")}, 1)) << "header beyond the append offset";
  EXPECT_FALSE(decode_forged({value_at(1, 0xFFFFFFFF, "k")}, 1)) << "a value beyond everything";
  EXPECT_FALSE(decode_forged({value_at(0xFFFFFFFF, 0xFFFFFFFF, "k")}, 1));
  EXPECT_FALSE(decode_forged({tombstone_at(40, "k")}, 1));
  EXPECT_FALSE(decode_forged({value_at(9, 0, "k"), value_at(8, 0, "k")}, 2)) << "out of order";
  EXPECT_FALSE(decode_forged({good}, 2)) << "key lengths that do not add up";
  EXPECT_FALSE(decode_forged({good}, 0));
  TableEntry packed = value_at(39, kGrain, "k");
  packed.kind = RecordKind::kPack;
  EXPECT_TRUE(decode_forged({packed}, 1)) << "without a header of its own";
  packed.value_bytes = kGrain + 1;
  EXPECT_FALSE(decode_forged({packed}, 1)) << "a packed value beyond the append offset";
  packed.value_bytes = 0;
  EXPECT_FALSE(decode_forged({packed}, 1)) << "a packed value of nothing";
  TableEntry unknown = good;
  unknown.kind =
      static_cast<RecordKind>(4);  // NOLINT(clang-analyzer-optin.core.EnumCastOutOfRange)
  EXPECT_FALSE(decode_forged({unknown}, 1));
}

TEST(TableTest, ATableEndsWithItsSegment) {
  TableBuilder builder;
  for (std::uint32_t i = 0; i < 200; ++i) add(builder, tombstone_at(30, "some key"), "some key");
  const Encoded encoded{builder};
  const auto trailer = decode_table_trailer(std::span{encoded.bytes}.last(kGrain), kIdentity,
                                            kGeometry.segment_bytes, kGrain, kSecret);
  ASSERT_TRUE(trailer.has_value());
  EXPECT_EQ(trailer->entries_offset + encoded.bytes.size(), kGeometry.segment_bytes);
  EXPECT_EQ(encoded.bytes.size(), table_bytes(200, 1600, kGrain));
}

}  // namespace
}  // namespace larder::log_store
