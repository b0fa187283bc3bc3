#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/tools/metric_samples.h"

namespace larder::tools {

/// A value that a share of all others does not exceed.
struct Quantile {
  double value = 0;
  bool is_more = false;  ///< It is above the last bound, which is `value`.
};

/// Upper bound of a bucket, and how many values are within it and all before it.
using Buckets = std::map<double, double>;

/// The value that a share `q` (0..1) does not exceed, as Prometheus tells it: linear within a
/// bucket. Nothing where there are no values.
std::optional<Quantile> quantile_of(const Buckets& buckets, double q);

/// The samples of one moment, by name. Copying costs time in proportion to the number of samples.
class Scrape {
 public:
  /// Labels that a series must have, among others: {{"tier", "log"}, {"kind", "load"}}.
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  struct Series {
    std::map<std::string, std::string> labels;
    double value = 0;

    bool has(Labels wanted) const;
  };

  Scrape() = default;
  Scrape(std::vector<MetricSample> samples, double at_s);

  /// From a monotonic clock.
  double at_s() const noexcept { return at_s_; }
  bool is_empty() const noexcept { return by_name_.empty(); }
  bool has(std::string_view name) const { return !series(name).empty(); }
  std::span<const Series> series(std::string_view name) const;
  /// Sum over all series with the labels. 0 if there is none.
  double sum(std::string_view name, Labels labels = {}) const;

  /// The growth of that sum since `before`, never below 0: a counter that is smaller than before
  /// began again at 0, like one that is new.
  double increase(const Scrape& before, std::string_view name, Labels labels = {}) const;
  /// The same of a histogram's buckets; since its start where there is no `before`.
  Buckets buckets(const Scrape* before, std::string_view name, Labels labels = {}) const;

  /// A copy with those of these names alone.
  Scrape only(std::span<const std::string_view> names) const;

 private:
  double increase_of(const Scrape& before, std::string_view name, const Series& series) const;

  double at_s_ = 0;
  std::map<std::string, std::vector<Series>, std::less<>> by_name_;
};

}  // namespace larder::tools
