#include "larder/cache/policies/reuse_model.h"

#include <algorithm>
#include <bit>

namespace larder::cache {
namespace {

constexpr std::size_t kBuckets = ReuseModel::kBuckets;
constexpr std::uint32_t kFirstEnd = 8;  ///< Of bucket 0.
constexpr double kRoot2 = 1.4142135623730951;

/// The part of older observations that is left after a round of fitting: half after 69 of them.
constexpr double kDecay = 0.99;
/// The assumed hazard of all classes, in observations: it weighs as much as this exposure of each
/// unit of a bucket's width.
constexpr double kAssumedWeight = 200;
constexpr double kAssumedUses = 0.3;
/// How many observations make a class's own hazard weigh as much as that of all classes.
constexpr double kClassWeight = 10;
constexpr double kMultiplierWeight = 5;
/// A column that is used with this probability before the end of a bucket is not followed further.
constexpr double kSurvivalMin = 1e-4;

struct Bucket {
  double begin = 0;
  double width = 0;
  double middle() const { return begin + width / 2; }
};

constexpr double begin_of(std::size_t bucket) {
  if (bucket == 0) return 0;
  double begin = kFirstEnd;
  for (std::size_t i = 1; i + 1 < bucket; i += 2) begin *= 2;
  return bucket % 2 == 0 ? begin * kRoot2 : begin;
}

constexpr std::array<Bucket, kBuckets> make_buckets() {
  std::array<Bucket, kBuckets> buckets{};
  for (std::size_t i = 0; i < kBuckets; ++i) {
    buckets[i] = {.begin = begin_of(i), .width = begin_of(i + 1) - begin_of(i)};
  }
  return buckets;
}

constexpr std::array<Bucket, kBuckets> kBucketTable = make_buckets();

}  // namespace

ReuseModel::ReuseModel(std::size_t classes) : classes_(classes) {
  fit_pool(0);
  for (Class& fitted : classes_) fit(fitted);
}

std::size_t ReuseModel::bucket_of(std::uint32_t age) noexcept {
  if (age < kFirstEnd) return 0;
  const std::uint32_t octave = static_cast<std::uint32_t>(std::bit_width(age)) - 4;
  // The upper half of an octave begins at sqrt(2): 1.0110101 in binary digits.
  const std::uint64_t fraction = (std::uint64_t{age} << 32) >> (octave + 3);
  const bool is_upper = fraction >= 0x1'6A09'E667U;
  return std::min<std::size_t>(1 + 2 * octave + (is_upper ? 1 : 0), kBuckets - 1);
}

void ReuseModel::fit_next(std::size_t columns) noexcept {
  if (next_ == 0) fit_pool(columns);
  Class& fitted = classes_[next_];
  fit(fitted);
  for (double& uses : fitted.uses) uses *= kDecay;
  for (double& exposure : fitted.exposure) exposure *= kDecay;
  next_ = (next_ + 1) % classes_.size();
}

void ReuseModel::fit_pool(std::size_t columns) noexcept {
  const double horizon = static_cast<double>(columns) / 4;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    double uses = 0;
    double exposure = 0;
    for (const Class& learned : classes_) {
      uses += learned.uses[i];
      exposure += learned.exposure[i];
    }
    const double assumed = kAssumedUses / (kBucketTable[i].middle() + 1 + horizon);
    const double weight = kAssumedWeight * kBucketTable[i].width;
    pooled_hazard_[i] = (uses + assumed * weight) / (exposure + weight);
  }
}

void ReuseModel::fit(Class& fitted) noexcept {
  double uses = 0;
  double expected = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    uses += fitted.uses[i];
    expected += fitted.exposure[i] * pooled_hazard_[i];
  }
  const double multiplier = (uses + kMultiplierWeight) / (expected + kMultiplierWeight);
  Row rough{};
  for (std::size_t i = 0; i < kBuckets; ++i) {
    rough[i] = (fitted.uses[i] + kClassWeight) /
               (fitted.exposure[i] + kClassWeight / (multiplier * pooled_hazard_[i]));
  }
  Row kept{};  // The probability of no use in a bucket, for a column that reaches it.
  Row time{};  // The time that such a column is expected to spend in it without one.
  for (std::size_t i = 0; i < kBuckets; ++i) {
    const double before = rough[i == 0 ? 0 : i - 1];
    const double behind = rough[i + 1 == kBuckets ? i : i + 1];
    const double hazard = (before + 2 * rough[i] + behind) / 4;
    const double mean = hazard * kBucketTable[i].width;
    kept[i] = 1 / (1 + mean + mean * mean / 2);
    time[i] = (1 - kept[i]) / hazard;
  }
  for (std::size_t from = 0; from < kBuckets; ++from) {
    double survival = 1;
    double used = 0;
    double spent = 0;
    double best = 0;
    for (std::size_t to = from; to < kBuckets && survival >= kSurvivalMin; ++to) {
      used += survival * (1 - kept[to]);
      spent += survival * time[to];
      survival *= kept[to];
      best = std::max(best, used / spent);
    }
    fitted.index[from] = best;
  }
}

}  // namespace larder::cache
