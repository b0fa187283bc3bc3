// The header of a record, and what a tombstone grain's payload says.
#include "larder/connectors/log/format/format.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using log_store::RecordHeader;
using log_store::RecordKind;

enum Right : unsigned {
  kMagic = 1,
  kKind = 2,
  kPlace = 4,
  kMac = 8,
  kLength = 16,
  kLargeGrain = 32
};

constexpr MacKey kSecret{.k0 = 1, .k1 = 2};
const log_store::Identity kIdentity{
    .path_id = {1, 2, 3}, .segment = 5, .generation = (std::uint64_t{4} << 32U) + 6};
constexpr std::uint64_t kOffset = 8192;
constexpr std::size_t kPayloadLengthAt = 22;
constexpr std::uint32_t kLargeGrainBytes = 16384;

Bytes intact(RecordKind kind, std::string_view payload, std::uint32_t grain_bytes) {
  Bytes grain(grain_bytes);
  const RecordHeader header{.kind = kind,
                            .offset = kOffset,
                            .value_bytes = 70'000,
                            .wall_seconds = 9,
                            .checksum = {.low = 3, .high = 4},
                            .payload = std::as_bytes(std::span{payload})};
  log_store::encode_record_header(header, kIdentity, kSecret, grain);
  return grain;
}

void check_same(const RecordHeader& a, const RecordHeader& b) {
  LARDER_CHECK(a.kind == b.kind && a.offset == b.offset && a.value_bytes == b.value_bytes &&
               a.wall_seconds == b.wall_seconds && a.checksum == b.checksum &&
               std::ranges::equal(a.payload, b.payload));
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  const auto right = input.take<std::uint8_t>();
  const std::uint32_t grain_bytes = right & kLargeGrain ? kLargeGrainBytes : 4096;
  Bytes grain(grain_bytes);
  std::ranges::copy(input.take_bytes(grain.size()), grain.begin());
  const Bytes sample = intact(RecordKind::kValue, "key", grain_bytes);
  const auto mend = [&](std::ptrdiff_t offset, std::ptrdiff_t length) {
    std::copy_n(sample.begin() + offset, length, grain.begin() + offset);
  };
  if (right & kMagic) mend(16, 4);
  if (right & kKind) {
    grain[20] = static_cast<std::byte>(1U + static_cast<unsigned>(grain[20]) % 3U);
  }
  if (right & kPlace) mend(24, 20), mend(48, 16);
  const std::size_t payload_max = grain_bytes - log_store::kRecordHeaderFixedBytes;
  auto payload_bytes = get<std::uint16_t>(grain, kPayloadLengthAt);
  if (right & kLength) {
    payload_bytes = static_cast<std::uint16_t>(payload_bytes % (payload_max + 1));
    put(grain, kPayloadLengthAt, payload_bytes);
  }
  if ((right & kMac) && payload_bytes <= payload_max) {
    sign(grain, log_store::kRecordHeaderFixedBytes + payload_bytes, kSecret);
  }

  const auto header = log_store::decode_record_header(grain, kIdentity, kOffset, kSecret);
  constexpr unsigned kAll = kMagic | kKind | kPlace | kMac | kLength;
  LARDER_CHECK(header.has_value() || (right & kAll) != kAll);
  if (!header) return;
  LARDER_CHECK(log_store::looks_like_record_header(grain));
  LARDER_CHECK(header->payload.size() == payload_bytes);
  LARDER_CHECK(header->payload.data() == grain.data() + log_store::kRecordHeaderFixedBytes);
  // Of no other place.
  log_store::Identity other = kIdentity;
  ++other.generation;
  LARDER_CHECK(!log_store::decode_record_header(grain, other, kOffset, kSecret));
  LARDER_CHECK(!log_store::decode_record_header(grain, kIdentity, kOffset + 4096, kSecret));
  Bytes again(grain_bytes);
  log_store::encode_record_header(*header, kIdentity, kSecret, again);
  const auto twice = log_store::decode_record_header(again, kIdentity, kOffset, kSecret);
  LARDER_CHECK(twice.has_value());
  check_same(*header, *twice);
  // The payload of a pack, whatever the kind says: what is told of lies in it, one behind the
  // other.
  const auto values = log_store::packed_values(header->payload);
  if (!values) return;
  const std::byte* at = header->payload.data();
  for (const log_store::PackedValue& value : *values) {
    LARDER_CHECK(value.key.data() == at + log_store::kPackKeyOverhead);
    LARDER_CHECK(!value.key.empty() && value.value_bytes > 0);
    at = value.key.data() + value.key.size();
    static_cast<void>(log_store::value_tag(value, kIdentity, kOffset, kSecret));
  }
  LARDER_CHECK(at == header->payload.data() + header->payload.size());
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const unsigned right : {0U, 31U, 63U}) {
    const std::uint32_t grain_bytes = right & kLargeGrain ? kLargeGrainBytes : 4096;
    all.push_back(seed(right, intact(RecordKind::kValue, "a key", grain_bytes)));
    all.push_back(
        seed(right, intact(RecordKind::kTombstones, std::string_view("\x01\0k", 3), grain_bytes)));
    all.push_back(seed(right, intact(RecordKind::kValue, std::string(1024, 'k'), grain_bytes)));
    const std::string line = std::string("\x01\0\x01\0\0\0", 6) + std::string(16, 'c') + "k";
    all.push_back(seed(right, intact(RecordKind::kPack, line + line, grain_bytes)));
  }
  return all;
}

}  // namespace larder::fuzz
