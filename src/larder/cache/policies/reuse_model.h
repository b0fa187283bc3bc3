#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace larder::cache {

/// How likely columns of a class are to be used again, by the time since their last use; learned
/// from uses, and given as an index by which PrefixPolicy compares columns.
///
/// Time is counted in uses of the policy that asks. An age is the time since a column's last use,
///   in buckets, two an octave.
/// Learned: for each class and bucket, how often columns of this age were used again, and how long
///   columns had this age. The hazard of a bucket is their ratio; where a class has no data, that
///   of all classes together is used, and where they have none, it is assumed to fall with age.
///   Observations lose half their weight in 69 rounds of fitting.
/// Index: the greatest expected number of uses per unit of time for a column of this class and age,
///   if it is kept for the best time from now on (Gittins index). So a column that will be used
///   soon or not at all is not judged by the mean of both.
/// Why so: docs/eviction.md has the measurements.
/// Threads: one. Determinism: additions, multiplications and divisions of doubles only, so the
///   same calls give the same answers on all machines. Memory: about 1.2 KiB a class.
class ReuseModel {
 public:
  static constexpr std::size_t kBuckets = 48;

  explicit ReuseModel(std::size_t classes);

  /// A column of this class and age was used again.
  void note_reuse(std::size_t kind, std::uint32_t age, double weight) noexcept {
    classes_[kind].uses[bucket_of(age)] += weight;
  }
  /// Adds an exposure of columns of this class and age for `weight` units of time.
  void note_exposure(std::size_t kind, std::uint32_t age, double weight) noexcept {
    classes_[kind].exposure[bucket_of(age)] += weight;
  }

  /// Fits the class whose turn it is to the observations; `columns` is the size of the cache.
  /// Bounded: some microseconds.
  void fit_next(std::size_t columns) noexcept;
  std::size_t classes() const noexcept { return classes_.size(); }

  double index(std::size_t kind, std::uint32_t age) const noexcept {
    return classes_[kind].index[bucket_of(age)];
  }

  /// 0 for ages below 8; two for each octave above; the last bucket has no end.
  static std::size_t bucket_of(std::uint32_t age) noexcept;

 private:
  using Row = std::array<double, kBuckets>;
  struct Class {
    Row uses{};
    Row exposure{};
    Row index{};
  };

  void fit_pool(std::size_t columns) noexcept;
  void fit(Class& fitted) noexcept;

  std::vector<Class> classes_;
  Row pooled_hazard_{};
  std::size_t next_ = 0;
};

}  // namespace larder::cache
