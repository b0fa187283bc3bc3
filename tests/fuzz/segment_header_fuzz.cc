// The header of a segment.
#include "larder/connectors/log/format/format.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

enum Right : unsigned { kMagic = 1, kPathId = 2, kSegment = 4, kMac = 8, kShort = 16 };

constexpr MacKey kSecret{.k0 = 1, .k1 = 2};
const log_store::Identity kIdentity{
    .path_id = {1, 2, 3}, .segment = 5, .generation = (std::uint64_t{4} << 32U) + 6};
constexpr std::size_t kGenerationAt = 40;

Bytes intact() {
  Bytes grain(log_store::kGrainBytesMin);
  log_store::encode_segment_header(kIdentity, 9, kSecret, grain);
  return grain;
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  const auto right = input.take<std::uint8_t>();
  Bytes grain(log_store::kGrainBytesMin);
  std::ranges::copy(input.take_bytes(grain.size()), grain.begin());
  const Bytes sample = intact();
  const auto mend = [&](std::ptrdiff_t offset, std::ptrdiff_t length) {
    std::copy_n(sample.begin() + offset, length, grain.begin() + offset);
  };
  if (right & kMagic) mend(16, 8);
  if (right & kPathId) mend(24, 16);
  if (right & kSegment) mend(56, 4);
  if (right & kMac) sign(grain, log_store::kSegmentHeaderUsedBytes, kSecret);
  if (right & kShort) grain.resize(bytes.size() % log_store::kSegmentHeaderUsedBytes);

  const auto generation =
      log_store::decode_segment_header(grain, kIdentity.path_id, kIdentity.segment, kSecret);
  if (!generation) {
    LARDER_CHECK((right & (kMagic | kPathId | kSegment | kMac | kShort)) !=
                 (kMagic | kPathId | kSegment | kMac));
    return;
  }
  LARDER_CHECK(*generation == get<std::uint64_t>(grain, kGenerationAt));
  // Of no other place.
  LARDER_CHECK(!log_store::decode_segment_header(grain, {}, kIdentity.segment, kSecret));
  LARDER_CHECK(!log_store::decode_segment_header(grain, kIdentity.path_id, 0, kSecret));
  LARDER_CHECK(!log_store::decode_segment_header(grain, kIdentity.path_id, kIdentity.segment, {}));
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  const Bytes grain = intact();
  for (const unsigned right : {0U, 15U, 16U}) {
    all.push_back(seed(right, std::span{grain}.first(log_store::kSegmentHeaderUsedBytes)));
  }
  return all;
}

}  // namespace larder::fuzz
