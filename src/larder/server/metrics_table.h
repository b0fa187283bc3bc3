#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "larder/base/bucket_counts.h"
#include "larder/connector/metrics.h"
#include "larder/connector/prometheus.h"
#include "larder/server/metrics_text.h"

namespace larder::server {

// The tables behind metrics_text() and metrics_markdown(): of each metric its name, type, meaning
// and where its values are, once.

/// Takes the samples of one metric.
class Samples {
 public:
  /// `common`: labels of each sample, or empty.
  Samples(PrometheusWriter& writer, std::string_view common) : writer_(writer), common_(common) {}

  void add(double value, std::string_view labels = {}) { writer_.sample(all(labels), value); }
  void add(std::uint64_t value, std::string_view labels = {}) {
    add(static_cast<double>(value), labels);
  }
  /// `per_unit`: how many of the histogram's integers are one unit of the metric.
  template <const auto& kBounds>
  void add(const BucketCounts<kBounds>& values, double per_unit, std::string_view labels = {}) {
    std::array<double, kBounds.size()> bounds{};
    std::array<std::uint64_t, kBounds.size()> within{};
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      bounds[i] = static_cast<double>(kBounds[i]) / per_unit;
      within[i] = sum += values.counts[i];
    }
    writer_.histogram(all(labels), bounds, within, values.count,
                      static_cast<double>(values.sum) / per_unit);
  }

 private:
  std::string all(std::string_view labels) const {
    std::string text{common_};
    if (!text.empty() && !labels.empty()) text += ',';
    return text.append(labels);
  }

  PrometheusWriter& writer_;
  std::string_view common_;
};

struct ServerMetric {
  std::string_view name;
  MetricKind kind = MetricKind::kCounter;
  std::string_view help;  ///< Sentences.
  void (*write)(const MetricsView& view, Samples& out) = nullptr;
  std::string_view labels = {};  ///< Of its samples, for the page: "tier, reason".
};

/// larder's own.
std::span<const ServerMetric> own_metrics() noexcept;
/// LMCache's, with the label `service_instance_id`.
std::span<const ServerMetric> lmcache_metrics() noexcept;

/// The value of one integer of ServerStatus, by the members that lead to it.
template <auto... kPath>
void one(const MetricsView& view, Samples& out) {
  out.add(static_cast<std::uint64_t>((view.status.*....*kPath)));
}

constexpr double kNsPerSecond = 1e9;

/// For one pair of model and salt, in tokens.
struct SpaceSample {
  std::string labels;
  std::uint64_t lookups = 0;
  std::uint64_t asked_tokens = 0;
  std::uint64_t l1_tokens = 0;
  std::uint64_t l2_tokens = 0;
};
/// At least one, which is empty before the first lookup. No two have the same labels.
std::vector<SpaceSample> space_samples(const ServerStatus& status);

/// For one salt.
struct SaltSample {
  std::string label;
  std::uint64_t l1_bytes = 0;
  std::uint64_t chunks = 0;
  std::uint64_t limit_bytes = 0;  ///< Of L1; without a limit, all of L1.
  std::uint64_t guarantee_bytes = 0;
  std::uint64_t refused = 0;
  std::uint64_t l2_refused = 0;
  std::array<std::uint64_t, cache::kTiersMax> l2_bytes{};
};
/// As space_samples().
std::vector<SaltSample> salt_samples(const ServerStatus& status);

/// A client's text as a label: printable, and of a bounded length.
std::string client_label(std::string_view name, std::string_view value);
std::string tier_label(std::string_view name, const TierStatus& tier);

}  // namespace larder::server
