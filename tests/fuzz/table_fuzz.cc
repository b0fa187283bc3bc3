// A segment's table: trailer, entries and keys.
#include "larder/connectors/log/format/table.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using log_store::Geometry;
using log_store::RecordKind;
using log_store::Table;
using log_store::TableBuilder;
using log_store::TableEntry;
using log_store::TableKind;
using log_store::TableTrailer;

enum Right : unsigned {
  kPlace = 1,
  kOffset = 2,
  kBodyMacs = 4,
  kMac = 8,
  kEntries = 16,
  kCounts = 32
};

constexpr MacKey kSecret{.k0 = 1, .k1 = 2};
const log_store::Identity kIdentity{
    .path_id = {1, 2, 3}, .segment = 5, .generation = (std::uint64_t{4} << 32U) + 6};
constexpr std::uint32_t kGrain = 4096;
constexpr Geometry kGeometry{
    .grain_bytes = kGrain, .segment_count = 32, .slot_bytes = 262'144, .segment_bytes = 98'304};
constexpr std::uint64_t kTrailerAt = kGeometry.segment_bytes - kGrain;
constexpr std::size_t kEntriesOffsetAt = 64;
constexpr std::size_t kEntryCountAt = 72;
constexpr std::size_t kKeysBytesAt = 80;
constexpr std::size_t kAppendOffsetAt = 88;
constexpr std::size_t kEntriesMacAt = 96;
constexpr std::size_t kKeysMacAt = 112;

/// The segment's end as its writer writes it.
AlignedBuffer sample(std::uint32_t entries) {
  TableBuilder builder;
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::string key = "key-" + std::to_string(i);
    builder.reserve(1, key.size());
    builder.add({.fingerprint_low = i,
                 .fingerprint_high = ~std::uint64_t{i},
                 .grain = 1 + 2 * i,
                 .value_bytes = 4000,
                 .key_bytes = static_cast<std::uint16_t>(key.size()),
                 .kind = i % 3 == 2 ? RecordKind::kTombstones : RecordKind::kValue},
                key);
  }
  auto encoded = builder.encode(TableKind::kSealed, kIdentity, 4,
                                std::uint64_t{1 + 2 * entries} * kGrain, kGeometry, kSecret);
  LARDER_CHECK(encoded.has_value());
  return std::move(*encoded);
}

/// Trailer fields that the flags name are made to agree with the body.
void mend(Bytes& segment, unsigned right) {
  const std::span<std::byte> trailer = std::span{segment}.subspan(kTrailerAt);
  if (right & kPlace) {
    const AlignedBuffer intact = sample(0);
    std::copy_n(intact.span().last(kGrain).begin() + 16, 40, trailer.begin() + 16);
  }
  if (right & kCounts) {
    put(trailer, kEntryCountAt, get<std::uint64_t>(trailer, kEntryCountAt) % 500);
    put(trailer, kKeysBytesAt, get<std::uint64_t>(trailer, kKeysBytesAt) % 20'000);
  }
  const auto entry_count = get<std::uint64_t>(trailer, kEntryCountAt);
  const auto keys_bytes = get<std::uint64_t>(trailer, kKeysBytesAt);
  const bool fits = entry_count <= 1000 && keys_bytes <= kGeometry.segment_bytes / 2;
  const std::uint64_t bytes = fits ? log_store::table_bytes(entry_count, keys_bytes, kGrain) : 0;
  if (fits && (right & kOffset)) {
    put(trailer, kEntriesOffsetAt, kGeometry.segment_bytes - bytes);
    put(trailer, kAppendOffsetAt,
        get<std::uint64_t>(trailer, kAppendOffsetAt) % (kTrailerAt / kGrain) * kGrain);
  }
  const auto at = get<std::uint64_t>(trailer, kEntriesOffsetAt);
  if (fits && at <= kGeometry.segment_bytes && bytes <= kGeometry.segment_bytes - at) {
    const auto entries = std::span{segment}.subspan(at, entry_count * log_store::kTableEntryBytes);
    const auto keys =
        std::span{segment}.subspan(at + log_store::round_up(entries.size(), kGrain), keys_bytes);
    if (right & kEntries) {  // In order, and of a kind there is: the bounds are for the parser.
      std::uint32_t grain = 1;
      for (std::uint64_t i = 0; i < entry_count; ++i) {
        auto entry = get<TableEntry>(entries, i * sizeof(TableEntry));
        grain += entry.grain % 3;
        entry.grain = grain;
        entry.value_bytes %= 20'000;
        entry.kind = static_cast<RecordKind>(1 + entry.reserved % 3);
        if (entry.kind == RecordKind::kPack) ++entry.value_bytes;
        entry.key_bytes =
            static_cast<std::uint16_t>(entry_count == 0 ? 0 : keys_bytes / entry_count);
        put(entries, i * sizeof(TableEntry), entry);
      }
    }
    if (right & kBodyMacs) {
      put(trailer, kEntriesMacAt, mac128(kSecret, entries));
      put(trailer, kKeysMacAt, mac128(kSecret, keys));
    }
  }
  if (right & kMac) sign(trailer, log_store::kTableTrailerUsedBytes, kSecret);
}

void check_table(const Table& table, std::span<const std::byte> body) {
  std::uint64_t keys_bytes = 0;
  std::uint32_t last_grain = 0;
  TableBuilder builder;
  for (const TableEntry& entry : table.entries) {
    LARDER_CHECK(entry.grain > 0 && entry.grain >= last_grain);
    LARDER_CHECK(std::uint64_t{entry.grain} * kGrain < table.trailer.append_offset);
    LARDER_CHECK(entry.value_bytes < kGeometry.segment_bytes ||
                 entry.kind == RecordKind::kTombstones);
    last_grain = entry.grain;
    builder.reserve(1, entry.key_bytes);
    builder.add(entry, std::string_view{table.keys}.substr(keys_bytes, entry.key_bytes));
    keys_bytes += entry.key_bytes;
  }
  LARDER_CHECK(keys_bytes == table.keys.size() && keys_bytes == table.trailer.keys_bytes);
  // Its writer writes the same of it.
  const auto again = builder.encode(table.trailer.kind, kIdentity, table.trailer.open_count,
                                    table.trailer.append_offset, kGeometry, kSecret);
  LARDER_CHECK(again.has_value() &&
               again->size() == kGeometry.segment_bytes - table.trailer.entries_offset);
  const std::size_t entries_bytes = table.entries.size() * log_store::kTableEntryBytes;
  const std::size_t keys_at = log_store::round_up(entries_bytes, kGrain);
  LARDER_CHECK(std::ranges::equal(again->span().first(entries_bytes), body.first(entries_bytes)));
  LARDER_CHECK(std::ranges::equal(again->span().subspan(keys_at, keys_bytes),
                                  body.subspan(keys_at, keys_bytes)));
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  const auto right = input.take<std::uint8_t>();
  Bytes segment(kGeometry.segment_bytes);
  std::ranges::copy(input.take_bytes(log_store::kTableTrailerUsedBytes),
                    segment.begin() + static_cast<std::ptrdiff_t>(kTrailerAt));
  // The rest of the input ends where the trailer begins, so that few bytes reach the keys.
  const auto body =
      input.rest().first(std::min<std::size_t>(input.rest().size(), kTrailerAt - kGrain));
  std::ranges::copy(body, segment.begin() + static_cast<std::ptrdiff_t>((kTrailerAt - body.size()) /
                                                                        kGrain * kGrain));
  mend(segment, right);

  const auto trailer = log_store::decode_table_trailer(
      std::span{segment}.subspan(kTrailerAt), kIdentity, kGeometry.segment_bytes, kGrain, kSecret);
  if (!trailer) return;
  LARDER_CHECK(trailer->entries_offset <= kTrailerAt && trailer->entries_offset % kGrain == 0);
  LARDER_CHECK(trailer->append_offset <= trailer->entries_offset &&
               trailer->append_offset >= kGrain);
  const auto found = std::span{segment}.subspan(trailer->entries_offset);
  const auto table = log_store::decode_table(*trailer, found, true, kGeometry, kSecret);
  const std::size_t entries_only =
      log_store::round_up(trailer->entry_count * log_store::kTableEntryBytes, kGrain);
  const auto without_keys =
      log_store::decode_table(*trailer, found.first(entries_only), false, kGeometry, kSecret);
  LARDER_CHECK(without_keys.has_value() || !table.has_value());
  LARDER_CHECK(!without_keys || without_keys->keys.empty());
  if (entries_only > 0) {  // A body that is too short is told, not read behind.
    LARDER_CHECK(!log_store::decode_table(*trailer, {}, false, kGeometry, kSecret));
  }
  if (table) check_table(*table, found);
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const std::uint32_t entries : {0U, 1U, 3U, 7U}) {
    const AlignedBuffer encoded = sample(entries);
    for (const unsigned right : {0U, 15U, 47U, 63U}) {
      Bytes input =
          seed(right, encoded.span().last(kGrain).first(log_store::kTableTrailerUsedBytes));
      const auto body = encoded.span().first(encoded.size() - kGrain);
      input.insert(input.end(), body.begin(), body.end());
      all.push_back(std::move(input));
    }
  }
  return all;
}

}  // namespace larder::fuzz
