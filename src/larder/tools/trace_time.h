#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace larder::tools {

/// A date with a time of day, as nanoseconds since 1970-01-01T00:00:00Z: "2024-05-10T00:00:00.25Z",
/// "2024-05-10 00:00:00.25+02:00". A space or a T separates date and time, seconds may have a
/// fraction (digits after the ninth are cut off), and without Z or an offset the time is UTC.
/// Returns nothing for any other text, a day that does not exist, and a time before 1970 or after
/// 2200.
std::optional<std::uint64_t> parse_date_time_ns(std::string_view text) noexcept;

/// The whole nanoseconds in `value` units of `unit_ns` (at least 1). Returns nothing below 0 and
/// from 2^63 nanoseconds up.
std::optional<std::uint64_t> scale_to_ns(double value, std::uint64_t unit_ns) noexcept;
std::optional<std::uint64_t> scale_to_ns(std::uint64_t value, std::uint64_t unit_ns) noexcept;

}  // namespace larder::tools
