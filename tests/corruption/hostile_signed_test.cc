// Structures with a MAC that holds and content that lies: what somebody with the store's secret, or
// a defect in a writer, could leave behind.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "larder/base/random.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/table.h"
#include "tests/corruption/hostile_test_support.h"

namespace larder::corruption {
namespace {

using log_store::RecordKind;
using log_store::TableEntry;
using log_store::TableTrailer;

constexpr std::uint64_t kHuge = ~std::uint64_t{0};

class HostileSignedTest : public HostileTest {
 protected:
  struct ReadTable {
    TableTrailer trailer;
    std::vector<TableEntry> entries;
    std::string keys;
  };
  static ReadTable read_table(const Survival& store, std::size_t segment) {
    const log_store::Superblock& superblock = store.map().superblock();
    const std::string& file = store.map().segments()[segment].file;
    const std::uint32_t grain = superblock.grain_bytes;
    const auto trailer = log_store::decode_table_trailer(
        store.intact().read(file, store.segment_bytes() - grain, grain), store.identity(segment),
        store.segment_bytes(), grain, superblock.secret);
    EXPECT_TRUE(trailer.has_value());
    const auto body = store.intact().read(
        file, trailer->entries_offset,
        static_cast<std::size_t>(store.segment_bytes() - trailer->entries_offset));
    const log_store::Geometry geometry{.grain_bytes = grain,
                                       .segment_count = superblock.segment_count,
                                       .slot_bytes = superblock.slot_bytes,
                                       .segment_bytes = store.segment_bytes()};
    auto table = log_store::decode_table(*trailer, body, true, geometry, superblock.secret);
    EXPECT_TRUE(table.has_value());
    return {
        .trailer = *trailer, .entries = std::move(table->entries), .keys = std::move(table->keys)};
  }
};

// --- Tables that are signed and lie -------------------------------------------------------------

TEST_P(HostileSignedTest, SignedTrailersWithImpossibleNumbersAreNoTables) {
  const std::size_t segment = find(golden(GetParam())->map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  using Change = void (*)(TableTrailer&);
  constexpr std::array<std::pair<const char*, Change>, 17> kChanges = {{
      {"entry count 2^32 - 1", [](TableTrailer& t) { t.entry_count = 0xFFFFFFFF; }},
      {"entry count 2^64 - 1", [](TableTrailer& t) { t.entry_count = kHuge; }},
      {"entry count whose bytes are 0 modulo 2^64",
       [](TableTrailer& t) { t.entry_count = 1ULL << 59; }},
      {"one entry more", [](TableTrailer& t) { ++t.entry_count; }},
      {"keys of 2^32 - 1 bytes", [](TableTrailer& t) { t.keys_bytes = 0xFFFFFFFF; }},
      {"keys of 2^64 - 1 bytes", [](TableTrailer& t) { t.keys_bytes = kHuge; }},
      {"one byte of keys more", [](TableTrailer& t) { ++t.keys_bytes; }},
      {"entries at 0", [](TableTrailer& t) { t.entries_offset = 0; }},
      {"entries at the trailer", [](TableTrailer& t) { t.entries_offset += 2ULL * 4096; }},
      {"entries at 2^64 - 4096", [](TableTrailer& t) { t.entries_offset = kHuge - 4095; }},
      {"records to 0", [](TableTrailer& t) { t.append_offset = 0; }},
      {"records to no grain", [](TableTrailer& t) { t.append_offset -= 1; }},
      {"records to 2^64 - 4096", [](TableTrailer& t) { t.append_offset = kHuge - 4095; }},
      {"records into the table",
       [](TableTrailer& t) { t.append_offset = t.entries_offset + 4096; }},
      {"an unknown kind", [](TableTrailer& t) { t.kind = static_cast<log_store::TableKind>(7); }},
      {"a checkpoint of an earlier session",
       [](TableTrailer& t) {
         t.kind = log_store::TableKind::kCheckpoint;
         t.open_count = 1;
       }},
      {"a checkpoint of the last session",
       [](TableTrailer& t) {
         t.kind = log_store::TableKind::kCheckpoint;
         t.open_count = 2;
       }},
  }};
  for (const auto& [what, change] : kChanges) {
    Survival store = survival();
    ReadTable table = read_table(store, segment);
    change(table.trailer);
    store.forge_table(segment, table.trailer, table.entries, table.keys);
    expect_survives(store, what);
  }
}

TEST_P(HostileSignedTest, SignedTablesWithImpossibleEntriesAreNoTables) {
  const std::size_t segment = find(golden(GetParam())->map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  using Change = void (*)(ReadTable&);
  constexpr std::array<std::pair<const char*, Change>, 12> kChanges = {{
      {"an entry that points to the table itself",
       [](ReadTable& t) {
         t.entries.back().grain = static_cast<std::uint32_t>(t.trailer.entries_offset / 4096);
       }},
      {"an entry that points to the trailer", [](ReadTable& t) { t.entries.back().grain = 239; }},
      {"an entry at the segment's header", [](ReadTable& t) { t.entries.front().grain = 0; }},
      {"an entry at grain 2^32 - 1", [](ReadTable& t) { t.entries.back().grain = 0xFFFFFFFF; }},
      {"a value of 2^32 - 1 bytes",
       [](ReadTable& t) { t.entries.back().value_bytes = 0xFFFFFFFF; }},
      {"a value that runs into the table",
       [](ReadTable& t) {
         t.entries.back().kind = RecordKind::kValue;
         t.entries.back().value_bytes = 900'000;
       }},
      {"entries in the wrong order", [](ReadTable& t) { std::ranges::reverse(t.entries); }},
      {"a key of 65535 bytes", [](ReadTable& t) { t.entries.front().key_bytes = 0xFFFF; }},
      {"an entry of kind 0",
       [](ReadTable& t) { t.entries.front().kind = static_cast<RecordKind>(0); }},
      {"an entry of kind 255",
       [](ReadTable& t) { t.entries.front().kind = static_cast<RecordKind>(255); }},
      {"every entry is noise",
       [](ReadTable& t) { Random{7}.fill(std::as_writable_bytes(std::span{t.entries})); }},
      {"every entry is zero", [](ReadTable& t) { std::ranges::fill(t.entries, TableEntry{}); }},
  }};
  for (const auto& [what, change] : kChanges) {
    Survival store = survival();
    ReadTable table = read_table(store, segment);
    change(table);
    store.forge_table(segment, table.trailer, table.entries, table.keys);
    expect_survives(store, what);
  }
}

// These hold as tables, and what they say is not so. Each read finds it out.
TEST_P(HostileSignedTest, SignedTablesThatLieGiveNoWrongBytes) {
  const std::size_t segment = find(golden(GetParam())->map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  using Change = void (*)(ReadTable&);
  constexpr std::array<std::pair<const char*, Change>, 9> kChanges = {{
      {"every fingerprint stands at the next record",
       [](ReadTable& t) {
         for (std::size_t i = 0; i + 1 < t.entries.size(); ++i) {
           std::swap(t.entries[i].fingerprint_low, t.entries[i + 1].fingerprint_low);
           std::swap(t.entries[i].fingerprint_high, t.entries[i + 1].fingerprint_high);
         }
       }},
      {"all entries at one record",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) {
           entry.grain = 1;
           entry.value_bytes = t.entries.front().value_bytes;
           entry.kind = RecordKind::kValue;
         }
       }},
      {"all entries of one key",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) {
           entry.fingerprint_low = t.entries.front().fingerprint_low;
           entry.fingerprint_high = t.entries.front().fingerprint_high;
         }
       }},
      {"values that overlap",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) {
           entry.kind = RecordKind::kValue;
           entry.value_bytes = static_cast<std::uint32_t>(t.trailer.append_offset -
                                                          (std::uint64_t{entry.grain} + 1) * 4096);
         }
       }},
      {"entries inside of values",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) {
           if (entry.kind != RecordKind::kTombstones && entry.value_bytes > 8192) {
             entry.grain += 2;
             entry.value_bytes -= 8192;
           }
         }
       }},
      {"values that are tombstones and the other way round",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) {
           const bool is_value = entry.kind == RecordKind::kValue;
           entry.kind = is_value ? RecordKind::kTombstones : RecordKind::kValue;
           entry.value_bytes = 0;
         }
       }},
      {"empty values",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) entry.value_bytes = 0;
       }},
      {"empty keys",
       [](ReadTable& t) {
         for (TableEntry& entry : t.entries) entry.key_bytes = 0;
         t.entries.front().key_bytes = static_cast<std::uint16_t>(t.keys.size());
       }},
      {"other keys",
       [](ReadTable& t) { Random{3}.fill(std::as_writable_bytes(std::span{t.keys})); }},
  }};
  for (const auto& [what, change] : kChanges) {
    Survival store = survival();
    ReadTable table = read_table(store, segment);
    change(table);
    store.forge_table(segment, table.trailer, table.entries, table.keys);
    expect_survives(store, what);
  }
}

TEST_P(HostileSignedTest, ASignedTableWithoutEntriesHidesItsSegmentOnly) {
  const std::size_t segment = find(golden(GetParam())->map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  Survival store = survival();
  TableTrailer trailer;
  trailer.open_count = 1;
  trailer.entries_offset = store.segment_bytes() - store.map().superblock().grain_bytes;
  trailer.append_offset = store.map().superblock().grain_bytes;
  store.forge_table(segment, trailer, {}, {});
  expect_survives(store, "an empty table");
}

TEST_P(HostileSignedTest, ASignedTableOfAnEarlierUseIsNoTable) {
  const std::size_t segment = find(golden(GetParam())->map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  Survival store = survival();
  log_store::Identity earlier = store.identity(segment);
  --earlier.generation;
  const std::uint32_t grain_bytes = store.map().superblock().grain_bytes;
  std::vector<std::byte> grain(grain_bytes);
  log_store::encode_table_trailer(read_table(store, segment).trailer, earlier,
                                  store.map().superblock().secret, grain);
  store.touch(segment).write(store.map().segments()[segment].file,
                             store.segment_bytes() - grain_bytes, grain);
  expect_survives(store, "a table of an earlier use");
}

// --- Records and headers that are signed and lie ------------------------------------------------

TEST_P(HostileSignedTest, SignedSegmentHeadersWithOtherGenerationsHideTheirSegmentOnly) {
  const StoreMap& map = golden(GetParam())->map;
  for (const std::uint64_t generation :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 63U, kHuge,
        map.segments()[1].generation}) {
    Survival store = survival();
    log_store::Identity identity = store.identity(0);
    identity.generation = generation;
    std::vector<std::byte> grain(map.superblock().grain_bytes);
    log_store::encode_segment_header(identity, 0, map.superblock().secret, grain);
    store.touch(0).write(map.segments()[0].file, 0, grain);
    expect_survives(store, "generation " + std::to_string(generation));
  }
}

/// Headers that a scan comes across, with a MAC that holds: all but one thing in them is right.
TEST_P(HostileSignedTest, SignedRecordsWithImpossibleNumbersAreNoRecords) {
  struct Forged {
    const char* what;
    std::uint64_t value_bytes = 0;
    RecordKind kind = RecordKind::kValue;
    std::string payload = "forged";
    bool at_the_end = false;
  };
  const std::string no_length("\x00\x00k", 3);
  const std::string long_length("\xFF\xFFkey", 5);
  const std::string half_length("\x01\x00k\x05", 4);
  const auto packed = [](std::uint16_t key_bytes, std::uint32_t value_bytes) {
    std::string line(log_store::kPackKeyOverhead, 'c');
    std::memcpy(line.data(), &key_bytes, sizeof(key_bytes));
    std::memcpy(line.data() + sizeof(key_bytes), &value_bytes, sizeof(value_bytes));
    return line + "k";
  };
  std::string thousand_keys;
  for (int i = 0; i < 1333; ++i) thousand_keys += std::string("\x01\x00k", 3);
  const std::vector<Forged> all = {
      {.what = "a value of 2^64 - 1 bytes", .value_bytes = kHuge},
      {.what = "a value of 2^64 - 4096 bytes", .value_bytes = kHuge - 4095},
      {.what = "a value of 2^32 - 1 bytes", .value_bytes = 0xFFFFFFFF},
      {.what = "a value as long as the segment", .value_bytes = 983'040},
      {.what = "a value that ends a byte behind the segment", .value_bytes = 1, .at_the_end = true},
      {.what = "a value with another checksum", .value_bytes = 100},
      {.what = "a long value with another checksum", .value_bytes = 700'000},
      {.what = "a value without a key", .payload = ""},
      {.what = "a key of 4000 bytes", .payload = std::string(4000, 'k')},
      {.what = "kind 0", .kind = static_cast<RecordKind>(0)},
      {.what = "kind 255", .kind = static_cast<RecordKind>(255)},
      {.what = "a tombstone of no length", .kind = RecordKind::kTombstones, .payload = no_length},
      {.what = "a tombstone of 65535", .kind = RecordKind::kTombstones, .payload = long_length},
      {.what = "half a tombstone", .kind = RecordKind::kTombstones, .payload = half_length},
      {.what = "tombstones with a value",
       .value_bytes = kHuge,
       .kind = RecordKind::kTombstones,
       .payload = thousand_keys},
      {.what = "a pack of nothing", .kind = RecordKind::kPack, .payload = ""},
      {.what = "a pack of an empty value",
       .value_bytes = 4096,
       .kind = RecordKind::kPack,
       .payload = packed(1, 0)},
      {.what = "a pack with another checksum",
       .value_bytes = 4096,
       .kind = RecordKind::kPack,
       .payload = packed(1, 100)},
      {.what = "a pack of 2^32 - 1 bytes",
       .value_bytes = std::uint64_t{1} << 32,
       .kind = RecordKind::kPack,
       .payload = packed(1, 0xFFFFFFFF)},
      {.what = "a pack that is shorter than its value",
       .value_bytes = 4096,
       .kind = RecordKind::kPack,
       .payload = packed(1, 8192)},
      {.what = "a pack with a key of 65535",
       .value_bytes = 4096,
       .kind = RecordKind::kPack,
       .payload = packed(0xFFFF, 100)},
      {.what = "a pack that ends behind the segment",
       .value_bytes = 4096,
       .kind = RecordKind::kPack,
       .payload = packed(1, 100),
       .at_the_end = true},
      {.what = "tombstones in the last grain",
       .kind = RecordKind::kTombstones,
       .payload = thousand_keys,
       .at_the_end = true},
  };
  // A segment whose grains are looked at, or is made one by taking its table away.
  const StoreMap& map = golden(GetParam())->map;
  std::size_t segment = find(map, Source::kGrains);
  if (segment == SIZE_MAX) segment = find(map, Source::kTable);
  ASSERT_NE(segment, SIZE_MAX);
  const std::uint32_t grain_bytes = map.superblock().grain_bytes;
  for (const Forged& forged : all) {
    Survival store = survival();
    const std::string& file = map.segments()[segment].file;
    StoreImage& image = store.touch(segment);
    std::vector<std::byte> grain(grain_bytes);
    if (!forged.at_the_end) image.write(file, store.segment_bytes() - grain_bytes, grain);
    // Right behind the header, where it hides what stands behind it should it be believed.
    const std::uint64_t offset =
        forged.at_the_end ? store.segment_bytes() - grain_bytes : grain_bytes;
    log_store::encode_record_header({.kind = forged.kind,
                                     .offset = offset,
                                     .value_bytes = forged.value_bytes,
                                     .wall_seconds = 0,
                                     .checksum = {.low = 1, .high = 2},
                                     .payload = std::as_bytes(std::span{forged.payload})},
                                    store.identity(segment), map.superblock().secret, grain);
    image.write(file, offset, grain);
    expect_survives(store, forged.what);
  }
}

// --- Superblocks that are signed and lie --------------------------------------------------------

TEST_P(HostileSignedTest, SignedSuperblocksWithImpossibleNumbersAreRefusedOrHarmless) {
  using Change = void (*)(log_store::Superblock&);
  constexpr std::array<std::pair<const char*, Change>, 14> kChanges = {{
      {"grain 0", [](log_store::Superblock& s) { s.grain_bytes = 0; }},
      {"grain 2048", [](log_store::Superblock& s) { s.grain_bytes = 2048; }},
      {"grain 12288", [](log_store::Superblock& s) { s.grain_bytes = 12288; }},
      {"grain 2^31", [](log_store::Superblock& s) { s.grain_bytes = 1U << 31U; }},
      {"grain 65536", [](log_store::Superblock& s) { s.grain_bytes = 65536; }},
      {"no segments", [](log_store::Superblock& s) { s.segment_count = 0; }},
      {"2^32 - 1 segments", [](log_store::Superblock& s) { s.segment_count = 0xFFFFFFFF; }},
      {"segments of nothing", [](log_store::Superblock& s) { s.segment_bytes = 0; }},
      {"segments of 2^63",
       [](log_store::Superblock& s) { s.segment_bytes = s.slot_bytes = 1ULL << 63U; }},
      {"segments larger than their slots",
       [](log_store::Superblock& s) { s.slot_bytes = s.segment_bytes - 4096; }},
      {"slots of 2^64 - 1", [](log_store::Superblock& s) { s.slot_bytes = kHuge; }},
      {"shorter segments", [](log_store::Superblock& s) { s.segment_bytes -= 4096; }},
      {"segments of four grains", [](log_store::Superblock& s) { s.segment_bytes = 16384; }},
      {"another secret", [](log_store::Superblock& s) { s.secret = {.k0 = 1, .k1 = 2}; }},
  }};
  for (const auto& [what, change] : kChanges) {
    set_crash_note(what);
    Survival store = survival();
    log_store::Superblock superblock = store.map().superblock();
    change(superblock);
    std::vector<std::byte> grain(log_store::kGrainBytesMin);
    log_store::encode_superblock(superblock, grain);
    for (std::size_t i = 0; i < store.map().segments().size(); ++i) store.touch(i);
    for (const std::uint64_t copy : {std::uint64_t{0}, log_store::kSuperblockCopyStride}) {
      store.image().write(log_store::kSuperblockFileName, copy, grain);
    }
    const std::string wrong = store.check({}, false);
    if (wrong.starts_with("not opened: ")) {
      EXPECT_GT(wrong.size(), std::string_view{"not opened: log: "}.size()) << what;
    } else {
      EXPECT_EQ(wrong, "") << what;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, HostileSignedTest, ::testing::ValuesIn(kGoldenNames),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace larder::corruption
