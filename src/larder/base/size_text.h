#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder {

// The texts in which people write numbers, and back. Every parser trims spaces, ignores case, reads
// the whole text or fails with kInvalidArgument and a sentence that shows the value and right
// examples. All functions are pure and may run in any thread.

/// "4096", "64MiB" or "64Mi" (steps of 1024), "1GB" or "1G" (steps of 1000), "1.5GiB". An error
/// unless it is a whole number of bytes below 2^64.
SetupResult<std::uint64_t> parse_bytes(std::string_view text);

/// "250ms", "5s", "1h", "1.5s"; units ns, us, ms, s, m, h, d. A number without a unit is an error,
/// except 0.
SetupResult<std::uint64_t> parse_duration_ns(std::string_view text);

/// A decimal number of 64 bits with a sign.
SetupResult<std::int64_t> parse_integer(std::string_view text);

/// "0.25" or "25%"; from 0 to 1.
SetupResult<double> parse_fraction(std::string_view text);

/// yes/no, true/false, on/off, 1/0.
SetupResult<bool> parse_bool(std::string_view text);

/// "1 segment", "2 segments"; `several` where an s is not enough.
std::string format_count(std::uint64_t count, std::string_view one, std::string_view several = {});

/// "200GiB": the largest unit that keeps the number whole, binary or decimal from MB on ("40TB").
/// parse_bytes() gives `bytes` back.
std::string format_bytes_exact(std::uint64_t bytes);

/// "1.37 GiB": for people, three or four significant digits.
std::string format_bytes(std::uint64_t bytes);

/// "90m": the largest unit that keeps the number whole. parse_duration_ns() gives it back.
std::string format_duration_exact(std::uint64_t duration_ns);

/// "1.37 ms": for people, three or four significant digits.
std::string format_duration_ns(std::uint64_t duration_ns);

}  // namespace larder
