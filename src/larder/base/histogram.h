#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace larder {

/// Counts values in buckets that are at most 1/16 of their values wide, over all 64-bit values. 8
/// KiB, no allocation; record() costs a few nanoseconds. One thread at a time; give each thread its
/// own and merge().
class LogLinearHistogram {
 public:
  /// One bucket for 0, 16 for 1..16, then 16 for each (2^k, 2^(k+1)]. A bucket includes its upper
  /// bound, so that powers of two, which sizes mostly are, come out exact.
  static constexpr std::size_t kBuckets = 977;

  static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
    if (value <= 16) return static_cast<std::size_t>(value);
    const auto octave = static_cast<unsigned>(std::bit_width(value - 1)) - 1U;  // 4..63
    return (octave - 3U) * std::size_t{16} +
           static_cast<std::size_t>(((value - 1) >> (octave - 4U)) & 15U) + 1U;
  }

  /// The largest value that belongs to `bucket`.
  static constexpr std::uint64_t upper_bound(std::size_t bucket) noexcept {
    if (bucket <= 16) return bucket;
    if (bucket == kBuckets - 1) return std::numeric_limits<std::uint64_t>::max();
    const std::size_t octave = (bucket - 1) / 16 + 3;
    return (((bucket - 1) % 16) + 17U) << (octave - 4U);
  }

  void record(std::uint64_t value, std::uint64_t times = 1) noexcept;
  void merge(const LogLinearHistogram& other) noexcept;

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t sum() const noexcept { return sum_; }  ///< Modulo 2^64.
  std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const noexcept { return max_; }
  double mean() const noexcept;

  /// The value that a share `q` (0..1) of all values does not exceed: never less than the exact
  /// one, at most 1/16 more, never outside [min, max]. 0 when there are none.
  std::uint64_t quantile(double q) const noexcept;

  /// How many values are at most `bound`; exact where `bound` is some bucket's upper bound.
  std::uint64_t count_at_most(std::uint64_t bound) const noexcept;

 private:
  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_ = 0;
};

}  // namespace larder
