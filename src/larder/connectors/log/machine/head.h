#pragma once

#include <cstdint>
#include <optional>

#include "larder/connectors/log/machine/segments.h"

namespace larder::log_store {

/// The segment that is appended to, and the places in it.
///
/// Invariant: places are given out in ascending order and never twice, and behind them is always
///   room for the table of everything that has a place.
/// Threads: the path's one. Cost: a place is a few additions.
class Head {
 public:
  explicit Head(Segments& segments) : segments_(segments) {}

  /// None at first, and between leave() and begin().
  std::optional<std::uint32_t> segment() const noexcept { return segment_; }
  /// Goes on in a segment that a clean close left open, with its table in memory.
  void adopt(std::uint32_t segment) noexcept { segment_ = segment; }
  /// Continues in a ready segment, from its first place.
  void begin(std::uint32_t segment);
  /// Ends here: the segment will be sealed. Returns it.
  std::uint32_t leave() noexcept;

  // While there is a segment.

  /// Whether so many bytes of records and the table, with so many entries more, fit.
  bool has_room(std::uint64_t bytes, std::uint64_t entries,
                std::uint64_t key_bytes) const noexcept {
    const Segment& segment = segments_.at(*segment_);
    const Geometry& geometry = segments_.geometry();
    return segment.append_offset + bytes +
               segment.table->bytes_with(entries, key_bytes, geometry.grain_bytes) <=
           geometry.segment_bytes;
  }
  /// Where the next place will begin.
  Location next() const noexcept {
    const std::uint64_t grains =
        segments_.at(*segment_).append_offset / segments_.geometry().grain_bytes;
    return {.segment = *segment_, .grain = static_cast<std::uint32_t>(grains)};
  }
  /// The next place, for which there is room. It is in flight until the sealer learns that it is
  /// settled.
  Location allocate(std::uint64_t bytes, std::uint64_t entries, std::uint64_t key_bytes) noexcept {
    const Location location = next();
    Segment& segment = segments_.at(*segment_);
    segment.append_offset += bytes;
    ++segment.writes_in_flight;
    segment.table->reserve(entries, key_bytes);
    return location;
  }
  /// Room in the table alone, for entries that join an earlier place.
  void reserve(std::uint64_t entries, std::uint64_t key_bytes) noexcept {
    segments_.at(*segment_).table->reserve(entries, key_bytes);
  }

 private:
  Segments& segments_;
  std::optional<std::uint32_t> segment_;
};

}  // namespace larder::log_store
