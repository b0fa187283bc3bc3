#include "larder/connectors/fault/fault_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "larder/base/hash.h"
#include "larder/connector/common_parameters.h"

namespace larder::fault {
namespace {

constexpr std::array<std::pair<std::string_view, Op>, 5> kOpNames{{{"get", Op::kGet},
                                                                   {"set", Op::kSet},
                                                                   {"exists", Op::kExists},
                                                                   {"delete", Op::kDelete},
                                                                   {"touch", Op::kTouch}}};

SetupError wrong(std::string_view part, std::string_view why) {
  return {ErrorCode::kInvalidArgument, "fault: pattern '" + std::string{part} +
                                           "': " + std::string{why} +
                                           "; write for example get:3,7;set:*;exists:10-20"};
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number == 0) return {};
  return number;
}

/// Cuts `text` at its first `separator`; `rest` becomes the part after it.
std::string_view take(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  const std::string_view taken = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
  return taken;
}

}  // namespace

std::string_view name_of(FaultKind kind) noexcept {
  constexpr std::array<std::string_view, kFaultKindCount> kNames{"error", "drop", "corrupt",
                                                                 "delay", "stall"};
  return kNames.at(static_cast<std::size_t>(kind));
}

SetupResult<OperationPattern> OperationPattern::parse(std::string_view text) {
  OperationPattern pattern;
  if (text.empty()) return wrong(text, "it is empty");
  while (!text.empty()) LARDER_TRY(parse_part(take(text, ';'), pattern.ranges_));
  return pattern;
}

SetupStatus OperationPattern::parse_part(std::string_view part, std::vector<Range>& ranges) {
  std::string_view numbers = part;
  const std::string_view name = take(numbers, ':');
  std::optional<Op> op;
  if (name != "*") {
    const auto found = std::ranges::find(kOpNames, name, &std::pair<std::string_view, Op>::first);
    if (found == kOpNames.end()) {
      return wrong(part, "the operations are get, set, exists, delete, touch and *");
    }
    op = found->second;
  }
  if (numbers.empty()) {
    if (name != "*" || part != "*") return wrong(part, "numbers or * are missing after the colon");
    ranges.push_back({op});
    return {};
  }
  while (!numbers.empty()) {
    std::string_view last_text = take(numbers, ',');
    if (last_text == "*") {
      ranges.push_back({op});
      continue;
    }
    const bool is_range = last_text.find('-') != std::string_view::npos;
    const auto first = number_of(is_range ? take(last_text, '-') : last_text);
    const auto last = number_of(last_text);
    if (!first || !last || *first > *last) return wrong(part, "a number or a range is wrong");
    ranges.push_back({op, *first, *last});
  }
  return {};
}

bool OperationPattern::matches(Op op, std::uint64_t number) const noexcept {
  return std::ranges::any_of(ranges_, [&](const Range& range) {
    return (!range.op || *range.op == op) && range.first <= number && number <= range.last;
  });
}

SetupResult<LoadGaps> LoadGaps::parse(std::string_view tail_ratios, std::string_view indices) {
  const auto invalid = [](std::string_view name, std::string_view part, const char* wanted) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        "fault: " + std::string{name} + " has '" + std::string{part} + "'; it must be " + wanted};
  };
  LoadGaps gaps;
  while (!tail_ratios.empty()) {
    const std::string_view part = take(tail_ratios, ',');
    const auto ratio = parse_number(part);
    if (!ratio || !(*ratio >= 0 && *ratio <= 1)) {
      return invalid("gap_tail_ratios", part, "a list of numbers from 0 to 1, as in 0.5,0.25");
    }
    gaps.tail_ratios.push_back(*ratio);
  }
  while (!indices.empty()) {
    const std::string_view part = take(indices, ',');
    std::uint64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    if (error != std::errc{} || end != part.data() + part.size()) {
      return invalid("gap_indices", part, "a list of places from 0 on, as in 3,7");
    }
    gaps.indices.push_back(index);
  }
  return gaps;
}

bool LoadGaps::is_hit(std::span<const std::byte> key, std::size_t place, std::size_t count,
                      std::uint64_t seed) const noexcept {
  if (std::ranges::find(indices, place) != indices.end()) return true;
  const auto is_gap = [&](double ratio) {
    // Halves go to the even neighbour, as in Python.
    const double gap = std::nearbyint((1.0 - ratio) * static_cast<double>(count - 1));
    return static_cast<std::size_t>(gap) == place;
  };
  if (std::ranges::any_of(tail_ratios, is_gap)) return true;
  return key_rate > 0 && static_cast<double>(hash64(key, seed) >> 11) * 0x1.0p-53 < key_rate;
}

bool FaultOptions::is_hit(FaultKind kind, Op op, std::uint64_t number) const noexcept {
  if (rate(kind) <= 0 || !pattern.matches(op, number)) return false;
  const std::array<std::uint64_t, 3> words{static_cast<std::uint64_t>(kind),
                                           static_cast<std::uint64_t>(op), number};
  const std::uint64_t hash = hash64(std::as_bytes(std::span{words}), seed);
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < rate(kind);
}

}  // namespace larder::fault
