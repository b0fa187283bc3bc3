#include "larder/base/histogram.h"

#include <algorithm>
#include <cmath>

namespace larder {

static_assert(LogLinearHistogram::bucket_of(std::numeric_limits<std::uint64_t>::max()) ==
              LogLinearHistogram::kBuckets - 1);

void LogLinearHistogram::record(std::uint64_t value, std::uint64_t times) noexcept {
  if (times == 0) return;
  buckets_[bucket_of(value)] += times;
  count_ += times;
  sum_ += value * times;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

void LogLinearHistogram::merge(const LogLinearHistogram& other) noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

double LogLinearHistogram::mean() const noexcept {
  return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_);
}

std::uint64_t LogLinearHistogram::quantile(double q) const noexcept {
  if (count_ == 0) return 0;
  if (!(q > 0)) return min_;
  if (q >= 1) return max_;
  const auto rank = static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::max(min_, std::min(upper_bound(i), max_));
  }
  return max_;
}

std::uint64_t LogLinearHistogram::count_at_most(std::uint64_t bound) const noexcept {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets && upper_bound(i) <= bound; ++i) seen += buckets_[i];
  return seen;
}

}  // namespace larder
