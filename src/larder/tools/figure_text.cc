#include "larder/tools/figure_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "larder/base/size_text.h"

namespace larder::tools {
namespace {

std::uint64_t whole(double value) {
  return static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 9e18)));
}

/// Three digits and the prefix of the unit.
std::string scaled_text(double value, const char* unit) {
  constexpr std::array kPrefixes{"", "k", "M", "G", "T", "P", "E"};
  std::size_t step = 0;
  while (value >= 999.5 && step + 1 < kPrefixes.size()) {
    value /= 1000;
    ++step;
  }
  const bool is_whole = step == 0 && (value >= 9.95 || value == std::round(value));
  const int digits = is_whole || value >= 99.95 ? 0 : value >= 9.995 || step == 0 ? 1 : 2;
  const std::string behind = std::string{kPrefixes.at(step)} + unit;
  return fmt::format("{:.{}f}{}{}", value, digits, behind.empty() ? "" : " ", behind);
}

}  // namespace

std::string percent_text(std::optional<double> share) {
  if (!share) return "-";
  return fmt::format("{:.1f} %", 100 * std::clamp(*share, 0.0, 1.0));
}

std::string count_text(std::optional<double> count) {
  return count ? scaled_text(std::max(0.0, *count), "") : "-";
}

std::string byte_rate_text(std::optional<double> bytes_per_s) {
  if (!bytes_per_s) return "-";
  if (*bytes_per_s < 1) return "0";
  return scaled_text(std::round(*bytes_per_s), "B/s");
}

std::string change_text(std::optional<double> bytes_per_s) {
  if (!bytes_per_s || std::abs(*bytes_per_s) < 1) return byte_rate_text(bytes_per_s);
  return (*bytes_per_s > 0 ? "+" : "-") + byte_rate_text(std::abs(*bytes_per_s));
}

std::string bytes_text(double bytes) {
  return format_bytes(whole(bytes));
}

std::string latency_text(std::optional<Quantile> seconds) {
  if (!seconds) return "-";
  return (seconds->is_more ? ">" : "") + format_duration_ns(whole(seconds->value * 1e9));
}

std::string while_text(std::optional<double> seconds) {
  if (!seconds) return "-";
  const std::uint64_t all = whole(*seconds);
  const std::uint64_t minutes = all / 60;
  const std::uint64_t hours = minutes / 60;
  if (all < 60) return fmt::format("{} s", all);
  if (minutes < 60) return fmt::format("{} min", minutes);
  if (hours < 24) return fmt::format("{} h {} min", hours, minutes % 60);
  return fmt::format("{} d {} h", hours / 24, hours % 24);
}

}  // namespace larder::tools
