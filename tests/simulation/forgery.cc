#include "tests/simulation/forgery.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "larder/base/hash.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/machine/segments.h"

namespace larder::simulation {
namespace {

constexpr std::uint64_t kGrain = log_store::kGrainBytesMin;

/// Single header grains with a good MAC.
bool copy_headers(Random& random, const io::SimulatedDisk& disk, std::span<std::byte> value) {
  const auto names = disk.names();
  bool has_some = false;
  for (; value.size() >= kGrain; value = value.subspan(kGrain)) {
    const std::string& name = names[static_cast<std::size_t>(random.below(names.size()))];
    const std::uint64_t grains = disk.file_bytes(name) / kGrain;
    if (grains == 0) continue;
    const auto grain = disk.read_image(name, random.below(grains) * kGrain, kGrain);
    if (!log_store::looks_like_record_header(grain)) continue;
    std::ranges::copy(grain, value.begin());
    has_some = true;
  }
  return has_some;
}

std::span<const std::byte> first_key_of(std::span<const std::byte> payload) {
  std::uint16_t key_bytes = 0;
  std::memcpy(&key_bytes, payload.data(), sizeof(key_bytes));
  return payload.subspan(log_store::kPackKeyOverhead, key_bytes);
}

/// Whole records and packs of the head's own generation, each of which would hold anywhere but for
/// its offset.
bool copy_records(Random& random, StoreUnderTest& store, std::uint32_t head,
                  std::span<std::byte> value) {
  const std::string name = log_store::segment_file_name(head);
  const std::uint64_t end = store.path().segments_for_test().at(head).append_offset / kGrain;
  if (end < 2) return false;
  const log_store::LogPath& path = store.path();
  const log_store::Identity identity{.path_id = path.superblock().path_id,
                                     .segment = head,
                                     .generation = path.segments_for_test().at(head).generation};
  for (std::uint64_t at = 1 + random.below(end - 1); at < end; ++at) {
    const std::uint64_t offset = at * kGrain;
    const std::uint64_t bytes = std::min<std::uint64_t>(value.size(), end * kGrain - offset);
    const auto image = store.disk().read_image(name, offset, bytes);
    const auto header = log_store::decode_record_header(std::span{image}.first(kGrain), identity,
                                                        offset, path.superblock().secret);
    if (!header || header->kind == log_store::RecordKind::kTombstones) continue;
    const bool is_pack = header->kind == log_store::RecordKind::kPack;
    std::span<const std::byte> key = header->payload;
    if (is_pack) key = first_key_of(key);
    // One that was replaced since does harm.
    const auto place = path.place_for_test(key);
    const bool is_current = place && place->generation == identity.generation &&
                            place->offset == offset + (is_pack ? kGrain : 0);
    if (is_current && !random.one_in(4)) continue;
    std::ranges::copy(image, value.begin());
    return true;
  }
  return false;
}

/// Headers that say the truth about their place, with a checksum that holds, under a wrong secret.
bool make_records(Random& random, StoreUnderTest& store, std::uint32_t head,
                  std::span<const std::byte> key, std::span<std::byte> value) {
  const log_store::LogPath& path = store.path();
  const log_store::Segment& segment = path.segments_for_test().at(head);
  const log_store::Identity identity{
      .path_id = path.superblock().path_id, .segment = head, .generation = segment.generation};
  const MacKey secret{};
  // Behind the value's header, or that of the pack which it begins.
  std::uint64_t place = segment.append_offset + kGrain;
  for (; value.size() >= 2 * kGrain; value = value.subspan(2 * kGrain), place += 2 * kGrain) {
    const auto claimed = value.subspan(kGrain, 1 + random.below(kGrain));
    log_store::encode_record_header({.kind = log_store::RecordKind::kValue,
                                     .offset = place,
                                     .value_bytes = claimed.size(),
                                     .wall_seconds = 0,
                                     .checksum = hash128(claimed),
                                     .payload = key},
                                    identity, secret, value.first(kGrain));
  }
  return true;
}

}  // namespace

std::vector<std::byte> forge_value(Random& random, StoreUnderTest& store, std::uint64_t bytes,
                                   std::span<const std::byte> claimed_key) {
  std::vector<std::byte> value(bytes);
  random.fill(value);
  const auto head = store.path().head_for_test();
  const std::uint64_t manner = random.below(5);
  const bool is_forged = manner == 0 || !head ? copy_headers(random, store.disk(), value)
                         : manner <= 2        ? copy_records(random, store, *head, value)
                                       : make_records(random, store, *head, claimed_key, value);
  if (!is_forged) value.clear();
  return value;
}

}  // namespace larder::simulation
