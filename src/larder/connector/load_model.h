#pragma once

#include <cstdint>

namespace larder {

/// The least cost of a load besides its bytes: many small values are work, too.
inline constexpr std::uint64_t kLoadCostBytesMin = std::uint64_t{64} << 10;
/// The cost of so many values of so many bytes, in bytes.
constexpr std::uint64_t load_cost(std::uint64_t values, std::uint64_t bytes) noexcept {
  return bytes > values * kLoadCostBytesMin ? bytes : values * kLoadCostBytesMin;
}

/// How long loads take, learned from those that have ended: `latency + cost * time per byte`,
/// fitted by least squares in which each load weighs 1/32 less than the next one.
///
/// The cost of a load is its own and that of everything that was under way when it was submitted,
/// so that the queue is in it. If all loads had about the same cost, latency and bandwidth cannot
/// be separated: a larger load then takes longer in proportion, and a smaller one as long. Loads
/// older than a minute are forgotten, so that a caller that stopped loading because loads were slow
/// tries again.
/// Threads: the caller synchronises. Cost: O(1), 48 bytes.
class LoadModel {
 public:
  static constexpr std::uint64_t kForgottenNs = 60'000'000'000;

  void add(std::uint64_t cost, std::uint64_t took_ns, std::uint64_t now_ns) noexcept;
  /// kNever: nothing was loaded within the last minute.
  std::uint64_t load_ns(std::uint64_t cost, std::uint64_t now_ns) const noexcept;

 private:
  double weight_ = 0;  ///< Of all loads; the sums below are weighted.
  double cost_ = 0;
  double time_ = 0;
  double cost_squared_ = 0;
  double cost_by_time_ = 0;
  std::uint64_t last_ns_ = 0;
};

}  // namespace larder
