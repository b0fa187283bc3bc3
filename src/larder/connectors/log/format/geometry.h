#pragma once

#include <cstdint>

#include "larder/base/result.h"
#include "larder/connectors/log/format/format.h"

namespace larder::log_store {

/// A store that was made with 128 can become a quarter as large.
inline constexpr std::uint32_t kSegmentCountMin = 31;
inline constexpr std::uint32_t kSegmentCountMax = 1U << 20;

/// The default of `max_value` for a new store, if that much fits.
inline constexpr std::uint64_t kValueBytesMaxDefault = std::uint64_t{128} << 20;

/// How many segments a new store has at least, where its values let it, and how much they hold.
inline constexpr std::uint64_t kSegmentsWanted = 128;
inline constexpr std::uint64_t kSegmentDataMin = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kSegmentDataMax = std::uint64_t{1} << 30;

/// How a path's capacity is cut into segments; constant while it is open.
struct Geometry {
  std::uint32_t grain_bytes = kGrainBytesMin;
  std::uint32_t segment_count = 0;  ///< An upper bound; files are made as they are needed.
  std::uint64_t slot_bytes = 0;
  std::uint64_t segment_bytes = 0;
  std::uint64_t capacity_bytes = 0;     ///< In force: requested, or remembered.
  std::uint64_t value_bytes_limit = 0;  ///< `max_value` in force.

  /// The largest value whose record fits into a segment beside the header and its own table.
  std::uint64_t value_bytes_max() const noexcept;
};

inline constexpr std::uint64_t kSlotReserveMin = 65536;

/// The part of a slot that its file leaves free, for the superblock file, the directory and the
/// extent blocks that a fragmented file system adds to a file: so `capacity` is a hard bound.
constexpr std::uint64_t slot_reserve_bytes(std::uint64_t slot_bytes) noexcept {
  const std::uint64_t thousandth = slot_bytes / 1024;
  return thousandth < kSlotReserveMin ? kSlotReserveMin : round_up(thousandth, kSlotReserveMin);
}

/// The request for a geometry.
struct GeometryRequest {
  std::uint64_t capacity_bytes = 0;    ///< 0: the remembered one.
  std::uint64_t value_bytes_max = 0;   ///< 0: the remembered one, or the default.
  std::uint32_t offset_alignment = 1;  ///< Alignment of direct I/O on the file system.
  std::uint64_t segment_bytes = 0;     ///< A segment's share; 0: by the rule.
  std::uint32_t segments_min = kSegmentCountMin;
};

/// For a new store. A segment has room for 2 MiB to 1 GiB of values, a power of two of which there
/// are 128 to 255 in the capacity, and for four values of max_value at least. It is as much larger
/// as their headers and table take, so that whole values fill it: of max_value, and without one any
/// power of two from 1 MiB on. Segments hold no data while they are free, so few and large ones
/// would cost hits.
/// Without a max_value there are 64 to 127 below a GiB, but 8 MiB at most and 4 MiB at least, and
/// the largest value is 128 MiB, or what fits into a segment. Too few segments is an error that
/// names the capacity or the max_value to choose; without a capacity, the directory `where`.
SetupResult<Geometry> make_geometry(const GeometryRequest& request, const std::string& where = {});

/// For an existing store: grain and segment size do not change, the capacity may, and settings that
/// are not requested are those of the superblock.
SetupResult<Geometry> geometry_of(const Superblock& superblock, const GeometryRequest& asked);

}  // namespace larder::log_store
