#include "larder/tools/scrape.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace larder::tools {
namespace {

std::optional<double> bound_of(const Scrape::Series& series) {
  const auto found = series.labels.find("le");
  if (found == series.labels.end()) return std::nullopt;
  const std::string& text = found->second;
  if (text == "+Inf") return std::numeric_limits<double>::infinity();
  double bound = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bound);
  if (error != std::errc{} || end != text.data() + text.size() || std::isnan(bound)) {
    return std::nullopt;
  }
  return bound;
}

}  // namespace

bool Scrape::Series::has(Labels wanted) const {
  return std::ranges::all_of(wanted, [&](const auto& label) {
    const auto found = labels.find(std::string{label.first});
    return found != labels.end() && found->second == label.second;
  });
}

std::optional<Quantile> quantile_of(const Buckets& buckets, double q) {
  if (buckets.empty()) return std::nullopt;
  const double wanted = q * buckets.rbegin()->second;
  if (!(buckets.rbegin()->second > 0)) return std::nullopt;
  double lower_bound = 0;
  double before = 0;
  for (const auto& [bound, within] : buckets) {
    if (within >= wanted && within > before) {
      if (std::isinf(bound)) return Quantile{.value = lower_bound, .is_more = true};
      const double share = (wanted - before) / (within - before);
      return Quantile{.value = lower_bound + (bound - lower_bound) * share};
    }
    if (!std::isinf(bound)) lower_bound = bound;
    before = std::max(before, within);
  }
  return Quantile{.value = lower_bound, .is_more = true};  // Without +Inf it violates the format.
}

Scrape::Scrape(std::vector<MetricSample> samples, double at_s) : at_s_(at_s) {
  for (MetricSample& sample : samples) {
    const double value = std::isnan(sample.value) ? 0 : sample.value;
    by_name_[std::move(sample.name)].push_back({std::move(sample.labels), value});
  }
  for (auto& [name, all] : by_name_) std::ranges::sort(all, {}, &Series::labels);
}

std::span<const Scrape::Series> Scrape::series(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return {};
  return found->second;
}

double Scrape::sum(std::string_view name, Labels labels) const {
  double sum = 0;
  for (const Series& one : series(name)) sum += one.has(labels) ? one.value : 0;
  return sum;
}

double Scrape::increase_of(const Scrape& before, std::string_view name, const Series& now) const {
  const std::span<const Series> then = before.series(name);
  const auto found = std::ranges::lower_bound(then, now.labels, {}, &Series::labels);
  if (found == then.end() || found->labels != now.labels || found->value > now.value) {
    return std::max(0.0, now.value);
  }
  return now.value - found->value;
}

double Scrape::increase(const Scrape& before, std::string_view name, Labels labels) const {
  double sum = 0;
  for (const Series& one : series(name)) {
    if (one.has(labels)) sum += increase_of(before, name, one);
  }
  return sum;
}

Buckets Scrape::buckets(const Scrape* before, std::string_view name, Labels labels) const {
  Buckets buckets;
  for (const Series& one : series(name)) {
    const auto bound = bound_of(one);
    if (!bound || !one.has(labels)) continue;
    buckets[*bound] += before == nullptr ? one.value : increase_of(*before, name, one);
  }
  return buckets;
}

Scrape Scrape::only(std::span<const std::string_view> names) const {
  Scrape copy;
  copy.at_s_ = at_s_;
  for (const std::string_view name : names) {
    if (const auto found = by_name_.find(name); found != by_name_.end())
      copy.by_name_.insert(*found);
  }
  return copy;
}

}  // namespace larder::tools
