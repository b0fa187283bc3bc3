#include "larder/connectors/log/format/geometry.h"

#include <algorithm>
#include <bit>
#include <string>

#include "larder/base/size_text.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kValuesPerSegment = 4;
/// Whole values of this size fill a segment, and so does any power of two above it.
constexpr std::uint64_t kFillingValue = kMiB;
/// Whole values of max_value do, too, but not of less than this: their headers take much.
constexpr std::uint64_t kFillingValueMin = 64 << 10;
/// What the table of a segment is made for. Longer keys may cost it a value.
constexpr std::uint64_t kKeyBytesTypical = 256;
/// A segment this small still holds a header, one value of 4 KiB with its record header, and a
/// table.
constexpr std::uint32_t kGrainsMin = 16;

SetupError invalid(std::string text) {
  return {ErrorCode::kInvalidArgument, "log: " + std::move(text)};
}

/// The limit of values that was asked for, else `remembered`, else the default, as far as it fits.
std::uint64_t value_limit_of(const GeometryRequest& request, const Geometry& geometry,
                             std::uint64_t remembered = 0) {
  if (request.value_bytes_max != 0) return request.value_bytes_max;
  return std::min(remembered == 0 ? kValueBytesMaxDefault : remembered, geometry.value_bytes_max());
}

/// The share of the capacity that a segment gets by the rule.
std::uint64_t slot_by_rule(std::uint64_t capacity_bytes, std::uint64_t value_bytes_max,
                           std::uint32_t grain_bytes) {
  const std::uint64_t share = std::bit_floor(capacity_bytes / kSegmentsWanted);
  const std::uint64_t least =
      value_bytes_max == 0 ? std::clamp(2 * share, 4 * kMiB, 8 * kMiB) : kSegmentDataMin;
  const std::uint64_t data = std::clamp(share, least, kSegmentDataMax);
  const std::uint64_t value =
      round_up(value_bytes_max == 0 ? kFillingValue : std::max(value_bytes_max, kFillingValueMin),
               grain_bytes);
  const std::uint64_t values = std::max(kValuesPerSegment, data / value);
  const std::uint64_t headers = std::max(values, values * value / kFillingValue);
  const std::uint64_t segment = values * value + (1 + headers) * grain_bytes +
                                table_bytes(headers, headers * kKeyBytesTypical, grain_bytes);
  std::uint64_t slot = segment;
  while (slot - slot_reserve_bytes(slot) < segment) slot += kSlotReserveMin;
  return slot;
}

/// The largest value that a message may name for segments of so much, in whole MiB; 0: none.
std::uint64_t value_that_fits(std::uint64_t capacity_bytes, std::uint64_t slot_bytes,
                              std::uint32_t grain_bytes) {
  if (slot_by_rule(capacity_bytes, kFillingValueMin, grain_bytes) > slot_bytes) return 0;
  std::uint64_t value = std::min(slot_bytes / kValuesPerSegment, kSegmentDataMax) / kMiB * kMiB;
  while (value > 0 && slot_by_rule(capacity_bytes, value, grain_bytes) > slot_bytes) value -= kMiB;
  return value;
}

/// Fills in the segment count from the capacity, or says what to choose instead.
SetupStatus count_segments(const GeometryRequest& request, Geometry& geometry,
                           const std::string& alternative) {
  const std::uint64_t count = request.capacity_bytes / geometry.slot_bytes;
  if (count < request.segments_min) {
    return invalid("capacity=" + format_bytes_exact(request.capacity_bytes) + " holds " +
                   format_count(count, "segment") + " of " +
                   format_bytes_exact(geometry.slot_bytes) + ", and at least " +
                   std::to_string(request.segments_min) + " are needed: choose capacity=" +
                   format_bytes_exact(round_up(geometry.slot_bytes * request.segments_min, kMiB)) +
                   " or more" + alternative);
  }
  geometry.segment_count =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(count, kSegmentCountMax));
  return {};
}

}  // namespace

std::uint64_t Geometry::value_bytes_max() const noexcept {
  const std::uint64_t overhead =
      2 * std::uint64_t{grain_bytes} + table_bytes(1, kGrainBytesMin, grain_bytes);
  return segment_bytes <= overhead ? 0 : segment_bytes - overhead;
}

SetupResult<Geometry> make_geometry(const GeometryRequest& request, const std::string& where) {
  if (request.capacity_bytes == 0) {
    return invalid("there is no store " + (where.empty() ? "" : "in " + where + " ") +
                   "yet, and a new one needs 'capacity': write for example capacity=200GiB");
  }
  Geometry geometry;
  geometry.capacity_bytes = request.capacity_bytes;
  geometry.grain_bytes = std::max(kGrainBytesMin, request.offset_alignment);
  if (geometry.grain_bytes > kGrainBytesMax || !std::has_single_bit(geometry.grain_bytes)) {
    return invalid("direct I/O on this file system needs offsets aligned to " +
                   std::to_string(request.offset_alignment) + " bytes, and at most " +
                   std::to_string(kGrainBytesMax) +
                   " is supported: choose another file system, or direct=no");
  }
  std::uint64_t slot = request.segment_bytes;
  if (slot == 0) {
    slot = slot_by_rule(request.capacity_bytes, request.value_bytes_max, geometry.grain_bytes);
  }
  slot = slot / geometry.grain_bytes * geometry.grain_bytes;
  const std::uint64_t slot_min = std::max<std::uint64_t>(
      4 * kSlotReserveMin, std::uint64_t{kGrainsMin} * geometry.grain_bytes);
  if (slot < slot_min) {
    return invalid("segment=" + format_bytes_exact(request.segment_bytes) +
                   " is too small: choose segment=" + format_bytes_exact(slot_min) + " or more");
  }
  geometry.slot_bytes = slot;
  geometry.segment_bytes =
      (slot - slot_reserve_bytes(slot)) / geometry.grain_bytes * geometry.grain_bytes;
  std::string alternative;
  const std::uint64_t slot_that_fits = request.capacity_bytes / request.segments_min;
  if (request.segment_bytes == 0 && slot > slot_that_fits) {
    const std::uint64_t value =
        value_that_fits(request.capacity_bytes, slot_that_fits, geometry.grain_bytes);
    if (value > 0) alternative = ", or max_value=" + format_bytes_exact(value) + " or less";
  }
  LARDER_TRY(count_segments(request, geometry, alternative));
  if (geometry.value_bytes_max() < request.value_bytes_max) {
    return invalid("max_value=" + format_bytes_exact(request.value_bytes_max) +
                   " does not fit into a segment of " + format_bytes_exact(slot) +
                   ": choose max_value=" + format_bytes_exact(geometry.value_bytes_max()) +
                   " or less, or a larger segment");
  }
  geometry.value_bytes_limit = value_limit_of(request, geometry);
  return geometry;
}

SetupResult<Geometry> geometry_of(const Superblock& superblock, const GeometryRequest& asked) {
  GeometryRequest request = asked;
  // An older version remembered the number of segments, which gives the capacity to within one
  // segment.
  if (request.capacity_bytes == 0) request.capacity_bytes = superblock.capacity_bytes;
  if (request.capacity_bytes == 0) {
    request.capacity_bytes = superblock.segment_count * superblock.slot_bytes;
  }
  Geometry geometry{.grain_bytes = superblock.grain_bytes,
                    .segment_count = 0,
                    .slot_bytes = superblock.slot_bytes,
                    .segment_bytes = superblock.segment_bytes,
                    .capacity_bytes = request.capacity_bytes};
  if (geometry.grain_bytes % request.offset_alignment != 0) {
    return invalid("the store was made with a grain of " + std::to_string(geometry.grain_bytes) +
                   " bytes, and direct I/O here needs " + std::to_string(request.offset_alignment) +
                   ": make it anew on this file system, or use direct=no");
  }
  LARDER_TRY(count_segments(request, geometry, ", or make the store anew in an empty directory"));
  if (geometry.value_bytes_max() < request.value_bytes_max) {
    return invalid("max_value=" + format_bytes_exact(request.value_bytes_max) +
                   " does not fit into this store's segments of " +
                   format_bytes_exact(geometry.slot_bytes) +
                   ": choose max_value=" + format_bytes_exact(geometry.value_bytes_max()) +
                   " or less, or make the store anew in an empty directory");
  }
  geometry.value_bytes_limit = value_limit_of(request, geometry, superblock.value_bytes_max);
  if (geometry.value_bytes_limit == 0) {
    return invalid("the store's segments of " + format_bytes_exact(geometry.slot_bytes) +
                   " hold no value: make the store anew in an empty directory");
  }
  return geometry;
}

}  // namespace larder::log_store
