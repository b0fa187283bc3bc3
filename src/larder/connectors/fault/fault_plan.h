#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::fault {

enum class FaultKind : std::uint8_t { kError = 0, kDrop, kCorrupt, kDelay, kStall };
inline constexpr std::size_t kFaultKindCount = 5;

std::string_view name_of(FaultKind kind) noexcept;
/// kDelay and kStall hold a whole batch; the others change one item.
constexpr bool is_of_batches(FaultKind kind) noexcept {
  return kind == FaultKind::kDelay || kind == FaultKind::kStall;
}

/// The operations that may be hit: "get:3,7;set:*;exists:10-20", or "*" for all. The numbers count
/// from 1, for each operation (get, set, exists, delete, touch) by itself.
class OperationPattern {
 public:
  static SetupResult<OperationPattern> parse(std::string_view text);
  bool matches(Op op, std::uint64_t number) const noexcept;

 private:
  struct Range {
    std::optional<Op> op;  ///< None: all.
    std::uint64_t first = 1;
    std::uint64_t last = UINT64_MAX;
  };
  static SetupStatus parse_part(std::string_view part, std::vector<Range>& ranges);

  std::vector<Range> ranges_;
};

/// LMCache's `fault_inject`: loads that fail by their place in the batch or by their key, so that a
/// found prefix has holes. The same key fails at every load.
struct LoadGaps {
  /// Of a batch of n keys, the key at round((1 - ratio) * (n - 1)): 0 is the last, 1 the first.
  std::vector<double> tail_ratios;
  std::vector<std::uint64_t> indices;  ///< Places from the beginning, 0 is the first.
  double key_rate = 0;                 ///< Share of all keys.

  bool is_any() const noexcept { return key_rate > 0 || !tail_ratios.empty() || !indices.empty(); }
  bool is_hit(std::span<const std::byte> key, std::size_t place, std::size_t count,
              std::uint64_t seed) const noexcept;
  /// Lists such as "0.5,0.25" and "3,7"; either may be empty.
  static SetupResult<LoadGaps> parse(std::string_view tail_ratios, std::string_view indices);
};

struct FaultOptions {
  std::array<double, kFaultKindCount> rates{};  ///< 0..1, by FaultKind.
  std::uint64_t delay_ns = 0;
  std::uint64_t stall_ns = 0;
  std::uint64_t seed = 1;
  OperationPattern pattern;
  LoadGaps gaps;

  double rate(FaultKind kind) const noexcept { return rates.at(static_cast<std::size_t>(kind)); }
  /// Whether the operation with this number meets this fault: a function of the options alone, so
  /// that a seed replays whatever the threads do.
  bool is_hit(FaultKind kind, Op op, std::uint64_t number) const noexcept;
};

}  // namespace larder::fault
