#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/connector/report.h"

namespace larder {

enum class MetricKind : std::uint8_t {
  kCounter = 0,  ///< Only grows while the store is open.
  kGauge,
  kHistogram,  ///< Of seconds.
};

/// Prometheus' name for it.
const char* metric_kind_name(MetricKind kind) noexcept;

/// A metric's name and meaning. In Prometheus' text its name has the prefix `larder_`.
struct MetricRow {
  std::string_view name;  ///< snake_case, a counter ends in _total.
  MetricKind kind = MetricKind::kCounter;
  std::string_view help;        ///< One sentence with its full stop.
  std::string_view label = {};  ///< Of its values, if it has several: "reason".
};

/// The metrics that every connector has, in the order in which people ask for them: name, kind and
/// meaning of each number of a Report, once. metrics_of(), the text for Prometheus, the Python
/// package's numbers and docs/metrics.md come from here.
std::span<const MetricRow> common_metrics() noexcept;

/// One value of a metric.
struct Metric {
  std::string_view name;         ///< From its row, or from the connector's Counter.
  std::string_view label_value;  ///< If the row has a label.
  double value = 0;              ///< Exact up to 2^53.
};

/// The values of all common metrics except histograms, in their order, and then the connector's
/// own; values that are not known yet (Report::what_if) are left out. They point into `report`.
std::vector<Metric> metrics_of(const Report& report);

/// Name and label value in one word, where labels have no place: "batches_queued_load",
/// "lookup_misses_absent_total".
std::string flat_name(const Metric& metric);

/// The value of the metric of this flat name, rounded down; empty when there is none.
std::optional<std::uint64_t> metric_value(const Report& report, std::string_view name);

/// All metrics of these stores in Prometheus' text format 0.0.4, labelled with their `type` and
/// `where`. `own_metrics`: the rows of the connectors' own counters, for their help texts; without
/// a row, the name tells a counter from a gauge.
std::string prometheus_text(std::span<const Report> reports,
                            std::span<const MetricRow> own_metrics = {});

}  // namespace larder
