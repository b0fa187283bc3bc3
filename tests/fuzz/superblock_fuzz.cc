// A superblock and the geometry that follows from it.
#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/geometry.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using log_store::Geometry;
using log_store::GeometryRequest;
using log_store::Superblock;

enum Right : unsigned { kMagic = 1, kSizes = 2, kMac = 4, kShort = 8 };
constexpr std::size_t kSecretAt = 64;

bool is_same(const Superblock& a, const Superblock& b) {
  return a.store_id == b.store_id && a.path_id == b.path_id && a.secret.k0 == b.secret.k0 &&
         a.secret.k1 == b.secret.k1 && a.sequence == b.sequence && a.grain_bytes == b.grain_bytes &&
         a.segment_count == b.segment_count && a.slot_bytes == b.slot_bytes &&
         a.segment_bytes == b.segment_bytes && a.open_count == b.open_count &&
         a.created_wall_seconds == b.created_wall_seconds &&
         a.fingerprint_seed == b.fingerprint_seed && a.is_clean == b.is_clean &&
         a.capacity_bytes == b.capacity_bytes && a.value_bytes_max == b.value_bytes_max &&
         a.segment_files == b.segment_files;
}

Superblock sample(std::uint32_t grain, std::uint64_t slot) {
  Superblock superblock;
  superblock.secret = {.k0 = 7, .k1 = 8};
  superblock.sequence = 3;
  superblock.grain_bytes = grain;
  superblock.segment_count = 32;
  superblock.slot_bytes = slot;
  superblock.segment_bytes = slot - log_store::slot_reserve_bytes(slot);
  superblock.open_count = 2;
  superblock.is_clean = true;
  superblock.capacity_bytes = 33 * slot;
  superblock.value_bytes_max = 4096;
  superblock.segment_files = 3;
  return superblock;
}

/// What an owner may ask for, 0 being what the superblock says; the parameter table has bounded it.
GeometryRequest request_of(Input& input) {
  return {.capacity_bytes = input.take<std::uint64_t>(),
          .value_bytes_max = input.take<std::uint64_t>() % ((std::uint64_t{1} << 30) + 1),
          .offset_alignment = 1U << (input.take<std::uint32_t>() % 20),
          .segment_bytes = input.take<std::uint64_t>() % (std::uint64_t{16} << 30)};
}

void check_geometry(const Geometry& geometry, const GeometryRequest& request) {
  LARDER_CHECK(geometry.grain_bytes >= log_store::kGrainBytesMin &&
               geometry.grain_bytes <= log_store::kGrainBytesMax);
  LARDER_CHECK(geometry.grain_bytes % request.offset_alignment == 0);
  LARDER_CHECK(geometry.segment_bytes % geometry.grain_bytes == 0);
  LARDER_CHECK(geometry.segment_bytes > 0 && geometry.segment_bytes <= geometry.slot_bytes);
  LARDER_CHECK(geometry.segment_count >= request.segments_min);
  LARDER_CHECK(geometry.segment_count <= log_store::kSegmentCountMax);
  LARDER_CHECK(request.capacity_bytes == 0 || geometry.capacity_bytes == request.capacity_bytes);
  LARDER_CHECK(geometry.slot_bytes <= geometry.capacity_bytes / geometry.segment_count);
  LARDER_CHECK(geometry.value_bytes_limit <= geometry.value_bytes_max());
  LARDER_CHECK(request.value_bytes_max == 0 ||
               geometry.value_bytes_limit == request.value_bytes_max);
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  const auto right = input.take<std::uint8_t>();
  const GeometryRequest request = request_of(input);
  Bytes grain(log_store::kGrainBytesMin);
  std::ranges::copy(input.take_bytes(grain.size()), grain.begin());
  Bytes intact(grain.size());
  log_store::encode_superblock(sample(4096, 1U << 20), intact);
  if (right & kMagic) std::copy_n(intact.begin() + 16, 16, grain.begin() + 16);
  if (right & kSizes) std::copy_n(intact.begin() + 88, 24, grain.begin() + 88);
  if (right & kMac) {
    sign(grain, log_store::kSuperblockUsedBytes, get<MacKey>(grain, kSecretAt));
  }
  if (right & kShort) grain.resize(bytes.size() % log_store::kSuperblockUsedBytes);

  std::uint32_t major = 0;
  const auto decoded = log_store::decode_superblock(grain, major);
  if (!decoded) {
    LARDER_CHECK((decoded.error().code() == ErrorCode::kUnimplemented) ==
                 (major > log_store::kFormatMajor));
  } else {
    Bytes again(log_store::kGrainBytesMin);
    log_store::encode_superblock(*decoded, again);
    const auto twice = log_store::decode_superblock(again, major);
    LARDER_CHECK(twice.has_value() && is_same(*decoded, *twice));
    const auto geometry = log_store::geometry_of(*decoded, request);
    LARDER_CHECK(geometry.has_value() || !geometry.error().text.empty());
    if (geometry) check_geometry(*geometry, request);
  }
  const auto made = log_store::make_geometry(request);
  LARDER_CHECK(made.has_value() || !made.error().text.empty());
  if (made) check_geometry(*made, request);
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const unsigned right : {0U, 4U, 7U, 8U}) {
    for (const std::uint32_t grain : {4096U, 65536U}) {
      Bytes input(29);
      input[0] = static_cast<std::byte>(right);
      put(input, 1, std::uint64_t{1} << 30);
      put(input, 9, std::uint64_t{1} << 16);
      put(input, 17, std::uint32_t{9});
      Bytes encoded(log_store::kGrainBytesMin);
      log_store::encode_superblock(sample(grain, 4U << 20), encoded);
      input.insert(input.end(), encoded.begin(), encoded.begin() + log_store::kSuperblockUsedBytes);
      all.push_back(input);
    }
  }
  return all;
}

}  // namespace larder::fuzz
