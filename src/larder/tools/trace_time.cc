#include "larder/tools/trace_time.h"

#include <chrono>
#include <cmath>

namespace larder::tools {
namespace {

constexpr std::uint64_t kNsMax = std::uint64_t{1} << 63;
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr unsigned kYearFirst = 1970;
constexpr unsigned kYearLast = 2200;  // Nanoseconds of later years do not fit 63 bits.

/// Reads fixed fields from the front of a text.
class Fields {
 public:
  explicit Fields(std::string_view text) : rest_(text) {}

  bool is_done() const { return rest_.empty(); }
  bool take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  /// A number of exactly so many digits, up to `most`.
  bool number(std::size_t digits, unsigned most, unsigned& value) {
    if (rest_.size() < digits) return false;
    value = 0;
    for (const char c : rest_.substr(0, digits)) {
      if (c < '0' || c > '9') return false;
      value = value * 10 + static_cast<unsigned>(c - '0');
    }
    rest_.remove_prefix(digits);
    return value <= most;
  }
  /// The digits behind a decimal point: at least one.
  bool fraction_ns(std::int64_t& ns) {
    std::int64_t weight = kSecondNs / 10;
    std::size_t digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits) {
      ns += weight * (rest_[digits] - '0');
      weight /= 10;
    }
    rest_.remove_prefix(digits);
    return digits > 0;
  }

 private:
  std::string_view rest_;
};

/// "Z", "+02:00", "+0200" or empty: seconds that local time is ahead of UTC.
bool take_offset(Fields& fields, std::int64_t& seconds) {
  if (fields.is_done() || fields.take('Z') || fields.take('z')) return fields.is_done();
  const bool is_behind = fields.take('-');
  if (!is_behind && !fields.take('+')) return false;
  unsigned hours = 0;
  unsigned minutes = 0;
  if (!fields.number(2, 14, hours)) return false;
  fields.take(':');
  if (!fields.number(2, 59, minutes)) return false;
  seconds = (std::int64_t{hours} * 60 + minutes) * 60 * (is_behind ? -1 : 1);
  return fields.is_done();
}

}  // namespace

std::optional<std::uint64_t> parse_date_time_ns(std::string_view text) noexcept {
  Fields fields{text};
  unsigned year = 0;
  unsigned month = 0;
  unsigned day = 0;
  unsigned hour = 0;
  unsigned minute = 0;
  unsigned second = 0;
  std::int64_t fraction_ns = 0;
  std::int64_t offset = 0;
  const bool is_date = fields.number(4, kYearLast, year) && fields.take('-') &&
                       fields.number(2, 12, month) && fields.take('-') &&
                       fields.number(2, 31, day) && (fields.take('T') || fields.take(' '));
  if (!is_date || year < kYearFirst) return std::nullopt;
  const bool is_time = fields.number(2, 23, hour) && fields.take(':') &&
                       fields.number(2, 59, minute) && fields.take(':') &&
                       fields.number(2, 60, second);
  if (!is_time || (fields.take('.') && !fields.fraction_ns(fraction_ns))) return std::nullopt;
  if (!take_offset(fields, offset)) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{static_cast<int>(year)},
                                         std::chrono::month{month}, std::chrono::day{day}};
  if (!date.ok()) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days{date}.time_since_epoch().count();
  const std::int64_t seconds =
      days * 86'400 + std::int64_t{hour} * 3600 + std::int64_t{minute} * 60 + second - offset;
  if (seconds < 0) return std::nullopt;
  return static_cast<std::uint64_t>(seconds * kSecondNs + fraction_ns);
}

std::optional<std::uint64_t> scale_to_ns(double value, std::uint64_t unit_ns) noexcept {
  const double ns = std::round(value * static_cast<double>(unit_ns));
  if (!(ns >= 0) || ns >= static_cast<double>(kNsMax)) return std::nullopt;
  return static_cast<std::uint64_t>(ns);
}

std::optional<std::uint64_t> scale_to_ns(std::uint64_t value, std::uint64_t unit_ns) noexcept {
  if (value > (kNsMax - 1) / unit_ns) return std::nullopt;
  return value * unit_ns;
}

}  // namespace larder::tools
