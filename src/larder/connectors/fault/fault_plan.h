#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
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

/// Which operations may be hit: "get:3,7;set:*;exists:10-20", or "*" for all. The numbers count
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

struct FaultOptions {
  std::array<double, kFaultKindCount> rates{};  ///< 0..1, by FaultKind.
  std::uint64_t delay_ns = 0;
  std::uint64_t stall_ns = 0;
  std::uint64_t seed = 1;
  OperationPattern pattern;

  double rate(FaultKind kind) const noexcept { return rates.at(static_cast<std::size_t>(kind)); }
  /// Whether the operation with this number meets this fault: a function of the options alone, so
  /// that a seed replays whatever the threads do.
  bool is_hit(FaultKind kind, Op op, std::uint64_t number) const noexcept;
};

}  // namespace larder::fault
