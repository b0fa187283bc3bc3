#include "larder/base/size_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

namespace larder {
namespace {

__extension__ using Wide = unsigned __int128;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::uint64_t kKilo = 1000;

constexpr std::array kByteUnits{
    Unit{"B", 1},
    Unit{"KiB", std::uint64_t{1} << 10},
    Unit{"MiB", std::uint64_t{1} << 20},
    Unit{"GiB", std::uint64_t{1} << 30},
    Unit{"TiB", std::uint64_t{1} << 40},
    Unit{"PiB", std::uint64_t{1} << 50},
    Unit{"EiB", std::uint64_t{1} << 60},
};

constexpr std::array kDecimalByteUnits{
    Unit{"KB", kKilo},
    Unit{"MB", kKilo* kKilo},
    Unit{"GB", kKilo* kKilo* kKilo},
    Unit{"TB", kKilo* kKilo* kKilo* kKilo},
    Unit{"PB", kKilo* kKilo* kKilo* kKilo* kKilo},
    Unit{"EB", kKilo* kKilo* kKilo* kKilo* kKilo* kKilo},
};

constexpr std::uint64_t kSecond = 1'000'000'000;

constexpr std::array kTimeUnits{
    Unit{"ns", 1},
    Unit{"us", 1'000},
    Unit{"ms", 1'000'000},
    Unit{"s", kSecond},
    Unit{"m", 60 * kSecond},
    Unit{"h", 3'600 * kSecond},
    Unit{"d", 86'400 * kSecond},
};

// <cctype> depends on the locale; numbers in a configuration do not.
constexpr bool is_space(char c) noexcept {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}
constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  return std::ranges::equal(a, b, {}, to_lower, to_lower);
}

const Unit* find_unit(std::span<const Unit> units, std::string_view name) noexcept {
  const auto found = std::ranges::find_if(
      units, [name](const Unit& unit) { return equal_ignoring_case(unit.name, name); });
  return found == units.end() ? nullptr : &*found;
}

constexpr std::string_view kIntegerExamples = "0, 16 or -1";
constexpr std::string_view kFractionExamples = "0.25 or 25%";
constexpr std::size_t kShownMax = 64;

/// An error shows the value given, but not kilobytes of it.
std::string shown(std::string_view text) {
  if (text.size() <= kShownMax) return fmt::format("\"{}\"", text);
  return fmt::format("\"{}...\" ({} characters)", text.substr(0, kShownMax), text.size());
}

SetupError bad(std::string_view text, std::string_view problem, std::string_view examples) {
  return {.code = ErrorCode::kInvalidArgument,
          .text = fmt::format("{} {}; right are for example {}.", shown(text), problem, examples)};
}

/// A decimal number "12.50" as its digits without trailing zeros: digits / 10^decimals.
struct Decimal {
  Wide digits = 0;
  unsigned decimals = 0;
};

constexpr unsigned kDecimalsMax = 18;

enum class DecimalProblem : std::uint8_t { kNotANumber, kTooLarge, kTooPrecise };

/// Reads a number at the start of `text` and takes it away. Accepts neither sign nor exponent.
Result<Decimal, DecimalProblem> take_decimal(std::string_view& text) {
  const auto whole_end = std::ranges::find_if_not(text, is_digit);
  const std::string_view whole{text.begin(), whole_end};
  text.remove_prefix(whole.size());
  std::string_view part;
  if (!whole.empty() && text.starts_with('.')) {
    text.remove_prefix(1);
    part = std::string_view{text.begin(), std::ranges::find_if_not(text, is_digit)};
    text.remove_prefix(part.size());
    if (part.empty()) return DecimalProblem::kNotANumber;
  }
  if (whole.empty()) return DecimalProblem::kNotANumber;
  while (part.ends_with('0')) part.remove_suffix(1);
  if (part.size() > kDecimalsMax) return DecimalProblem::kTooPrecise;

  Decimal number;
  for (const char digit : whole) {
    number.digits = number.digits * 10 + static_cast<unsigned>(digit - '0');
    if (number.digits > std::numeric_limits<std::uint64_t>::max()) {
      return DecimalProblem::kTooLarge;
    }
  }
  for (const char digit : part) {
    number.digits = number.digits * 10 + static_cast<unsigned>(digit - '0');
  }
  number.decimals = static_cast<unsigned>(part.size());
  return number;
}

/// digits * factor / 10^decimals, if that is a whole number below 2^64.
std::optional<Wide> times(Decimal number, std::uint64_t factor) noexcept {
  // Cancels factors of 2 and 5 first: the product is then at most 2^64 * factor, which is below
  // 2^128.
  Wide denominator = 1;
  for (unsigned i = 0; i < number.decimals; ++i) denominator *= 10;
  for (const unsigned prime : {2U, 5U}) {
    while (denominator % prime == 0 && factor % prime == 0) {
      denominator /= prime;
      factor /= prime;
    }
  }
  if (number.digits % denominator != 0) return std::nullopt;
  return (number.digits / denominator) * factor;
}

/// The part that both kinds of quantities share.
struct Quantity {
  std::string_view examples;
  std::string_view too_large;
  std::string_view not_whole;
  std::string_view unknown_unit;
};

constexpr Quantity kBytes{
    .examples = "4096, 64MiB, 1.5GiB or 200GB",
    .too_large = "is more than 2^64 - 1 bytes",
    .not_whole = "is not a whole number of bytes",
    .unknown_unit =
        "has a unit that is none of B, KiB, MiB, GiB, TiB, PiB, EiB (or Ki, Mi, ...: steps of "
        "1024), KB, MB, GB, TB, PB, EB (or K, M, ...: steps of 1000)"};

constexpr Quantity kDuration{
    .examples = "100ns, 10us, 250ms, 5s, 30m, 1h or 7d",
    .too_large = "is longer than 2^64 - 1 nanoseconds, which are 584 years",
    .not_whole = "is not a whole number of nanoseconds",
    .unknown_unit = "needs one of the units ns, us, ms, s, m, h, d"};

SetupResult<std::uint64_t> parse_quantity(std::string_view text, const Quantity& quantity,
                                          const auto& factor_of) {
  std::string_view rest = trimmed(text);
  if (rest.empty()) return bad(text, "is empty", quantity.examples);
  if (rest.starts_with('-')) return bad(text, "is negative", quantity.examples);
  const auto number = take_decimal(rest);
  if (!number) {
    switch (number.error()) {
      case DecimalProblem::kTooLarge:
        return bad(text, quantity.too_large, quantity.examples);
      case DecimalProblem::kTooPrecise:
        return bad(text, quantity.not_whole, quantity.examples);
      case DecimalProblem::kNotANumber:
        return bad(text, "does not start with a number", quantity.examples);
    }
  }
  rest = trimmed(rest);
  if (rest.empty() && number->digits == 0) return std::uint64_t{0};
  const Unit* unit = factor_of(rest);
  if (unit == nullptr) return bad(text, quantity.unknown_unit, quantity.examples);
  const auto product = times(*number, unit->factor);
  if (!product) return bad(text, quantity.not_whole, quantity.examples);
  if (*product > std::numeric_limits<std::uint64_t>::max()) {
    return bad(text, quantity.too_large, quantity.examples);
  }
  return static_cast<std::uint64_t>(*product);
}

const Unit& largest_whole(std::span<const Unit> units, std::uint64_t value) noexcept {
  const Unit* best = units.data();
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) best = &unit;
  }
  return *best;
}

std::string for_people(std::span<const Unit> units, std::uint64_t value) {
  const Unit* unit = units.data();
  for (const Unit& larger : units) {
    if (value >= larger.factor) unit = &larger;
  }
  if (value % unit->factor == 0) return fmt::format("{} {}", value / unit->factor, unit->name);
  const double scaled = static_cast<double>(value) / static_cast<double>(unit->factor);
  if (scaled < 9.995) return fmt::format("{:.2f} {}", scaled, unit->name);
  if (scaled < 99.95) return fmt::format("{:.1f} {}", scaled, unit->name);
  return fmt::format("{:.0f} {}", scaled, unit->name);
}

}  // namespace

SetupResult<std::uint64_t> parse_bytes(std::string_view text) {
  return parse_quantity(text, kBytes, [](std::string_view name) -> const Unit* {
    if (name.empty()) return kByteUnits.data();
    // The B may be left out: "Gi", "G".
    const std::string whole{name};
    const bool has_b = to_lower(name.back()) == 'b';
    const std::string full = has_b ? whole : whole + "B";
    const Unit* unit = find_unit(kByteUnits, full);
    return unit != nullptr ? unit : find_unit(kDecimalByteUnits, full);
  });
}

SetupResult<std::uint64_t> parse_duration_ns(std::string_view text) {
  return parse_quantity(text, kDuration,
                        [](std::string_view name) { return find_unit(kTimeUnits, name); });
}

SetupResult<std::int64_t> parse_integer(std::string_view text) {
  std::string_view digits = trimmed(text);
  if (digits.empty()) return bad(text, "is empty", kIntegerExamples);
  if (digits.starts_with('+')) digits.remove_prefix(1);
  if (digits.starts_with("-") && digits.size() != trimmed(text).size()) {
    return bad(text, "is not a whole number", kIntegerExamples);
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) {
    return bad(text, "does not fit into 64 bits", kIntegerExamples);
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return bad(text, "is not a whole number", kIntegerExamples);
  }
  return value;
}

SetupResult<double> parse_fraction(std::string_view text) {
  std::string_view number = trimmed(text);
  if (number.empty()) return bad(text, "is empty", kFractionExamples);
  const bool is_percent = number.ends_with('%');
  if (is_percent) {
    number.remove_suffix(1);
    number = trimmed(number);
  }
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc{} || end != number.data() + number.size() || !std::isfinite(value)) {
    return bad(text, "is not a number", kFractionExamples);
  }
  if (is_percent) value /= 100;
  if (value < 0 || value > 1) return bad(text, "is not between 0 and 1", kFractionExamples);
  return value;
}

SetupResult<bool> parse_bool(std::string_view text) {
  const std::string_view word = trimmed(text);
  for (const std::string_view yes : {"yes", "true", "on", "1"}) {
    if (equal_ignoring_case(word, yes)) return true;
  }
  for (const std::string_view no : {"no", "false", "off", "0"}) {
    if (equal_ignoring_case(word, no)) return false;
  }
  return bad(text, "is neither yes nor no", "yes, no, true, false, on, off, 1 or 0");
}

std::string format_count(std::uint64_t count, std::string_view one, std::string_view several) {
  if (count == 1) return fmt::format("1 {}", one);
  if (several.empty()) return fmt::format("{} {}s", count, one);
  return fmt::format("{} {}", count, several);
}

std::string format_bytes_exact(std::uint64_t bytes) {
  if (bytes == 0) return "0";
  const Unit* unit = &largest_whole(kByteUnits, bytes);
  // "40TB" reads well where 39062500000KiB does not.
  const Unit& decimal = largest_whole(std::span{kDecimalByteUnits}.subspan(1), bytes);
  if (bytes % decimal.factor == 0 && decimal.factor > unit->factor) unit = &decimal;
  if (unit->factor == 1) return fmt::format("{}", bytes);
  return fmt::format("{}{}", bytes / unit->factor, unit->name);
}

std::string format_bytes(std::uint64_t bytes) {
  return for_people(kByteUnits, bytes);
}

std::string format_duration_exact(std::uint64_t duration_ns) {
  if (duration_ns == 0) return "0";
  const Unit& unit = largest_whole(kTimeUnits, duration_ns);
  return fmt::format("{}{}", duration_ns / unit.factor, unit.name);
}

std::string format_duration_ns(std::uint64_t duration_ns) {
  if (duration_ns == 0) return "0 s";
  return for_people(kTimeUnits, duration_ns);
}

}  // namespace larder
