#include "larder/server/option_values.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/base/size_text.h"
#include "larder/connector/common_parameters.h"

namespace larder::server {
namespace {

constexpr double kGib = 1 << 30;
constexpr double kGibMax = 1 << 24;  // 16 PiB.
constexpr double kSecond = 1e9;
constexpr double kSecondsMax = 315'360'000;  // Ten years.
constexpr std::size_t kShownBytes = 64;

SetupError bad(std::string_view text, const std::string& expected) {
  return SetupError{ErrorCode::kInvalidArgument,
                    "\"" + printable(text.substr(0, kShownBytes)) + "\": expected " + expected};
}

/// LMCache's own unit: its "GB" are 2^30 bytes.
std::string_view without_gb(std::string_view text) {
  for (const std::string_view unit : {"GB", "gb", "Gb"}) {
    if (text.ends_with(unit)) return text.substr(0, text.size() - unit.size());
  }
  return text;
}

}  // namespace

SetupResult<std::uint64_t> parse_gib(std::string_view text) {
  const std::string expected = "GiB, as in 8, 0.5, 8GiB or 512MiB";
  if (const auto number = parse_number(without_gb(text))) {
    if (!(*number >= 0 && *number <= kGibMax)) return bad(text, expected);
    return static_cast<std::uint64_t>(std::llround(*number * kGib));
  }
  const auto bytes = parse_bytes(text);
  if (!bytes) return bad(text, expected);
  return *bytes;
}

SetupResult<std::uint64_t> parse_seconds(std::string_view text) {
  const std::string expected = "seconds, as in 30, 0.5 or 2m, up to ten years";
  if (const auto number = parse_number(text)) {
    if (!(*number >= 0 && *number <= kSecondsMax)) return bad(text, expected);
    return static_cast<std::uint64_t>(std::llround(*number * kSecond));
  }
  const auto duration = parse_duration_ns(text);
  if (!duration || static_cast<double>(*duration) > kSecondsMax * kSecond) {
    return bad(text, expected);
  }
  return *duration;
}

SetupResult<std::int64_t> parse_whole(std::string_view text, std::int64_t least,
                                      std::int64_t most) {
  const auto number = parse_integer(text);
  if (number && *number >= least && *number <= most) return *number;
  return bad(text, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
}

SetupResult<double> parse_share(std::string_view text) {
  const auto share = parse_fraction(text);
  if (share) return *share;
  return bad(text, "a share from 0.0 to 1.0, as in 0.8 or 80%");
}

SetupResult<std::size_t> parse_choice(std::string_view text,
                                      std::span<const std::string_view> names) {
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  std::string list;
  for (const std::string_view name : names) {
    list += (list.empty() ? "" : ", ") + std::string{name};
  }
  const std::string_view nearest = nearest_name(text, names);
  if (nearest.empty()) return bad(text, "one of " + list);
  return bad(text, "one of " + list + "; did you mean " + std::string{nearest} + "?");
}

}  // namespace larder::server
