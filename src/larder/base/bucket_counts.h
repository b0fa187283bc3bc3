#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace larder {

/// Counts values by a few upper bounds: a histogram as Prometheus reads it, small enough to be
/// copied with a snapshot. `kBounds` is an array of ascending integers in the unit of the values.
/// Use LogLinearHistogram for quantiles, or where the range is not known.
/// Threads: one at a time. Cost: record() is one binary search.
template <const auto& kBounds>
struct BucketCounts {
  static constexpr std::size_t kBuckets = kBounds.size();

  std::array<std::uint64_t, kBuckets> counts{};  ///< Count of each bucket; not cumulative.
  std::uint64_t count = 0;  ///< Count of all values, including those above the last bound.
  std::uint64_t sum = 0;

  void record(std::uint64_t value) noexcept {
    ++count;
    sum += value;
    const auto bound = std::ranges::lower_bound(kBounds, value);
    if (bound != kBounds.end()) ++counts[static_cast<std::size_t>(bound - kBounds.begin())];
  }
};

}  // namespace larder
