#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "larder/base/result.h"

namespace larder::server {

// How the values of options are read. The errors show the value and right examples; all are pure.

/// "8", "0.5" and "8GB" are GiB as in LMCache's `_gb` options; "8GiB", "512MiB" name their unit.
SetupResult<std::uint64_t> parse_gib(std::string_view text);

/// In nanoseconds: "30" and "0.5" are seconds, "2m" names its unit. At most ten years.
SetupResult<std::uint64_t> parse_seconds(std::string_view text);

/// A decimal number within the bounds.
SetupResult<std::int64_t> parse_whole(std::string_view text, std::int64_t least, std::int64_t most);

/// 0.0 to 1.0, or "80%".
SetupResult<double> parse_share(std::string_view text);

/// The place of `text` among `names`; an error names the nearest and lists them.
SetupResult<std::size_t> parse_choice(std::string_view text,
                                      std::span<const std::string_view> names);

}  // namespace larder::server
