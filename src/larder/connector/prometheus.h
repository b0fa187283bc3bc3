#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "larder/connector/metrics.h"

namespace larder {

/// `name="value"`, escaped as the format wants it. The value is UTF-8.
std::string prometheus_label(std::string_view name, std::string_view value);

/// Writes Prometheus' text format 0.0.4, one metric after another. Threads: one.
class PrometheusWriter {
 public:
  /// The samples up to the next begin() are of this metric. Each metric once.
  void begin(std::string_view name, MetricKind kind, std::string_view help);
  /// `labels`: of prometheus_label(), with commas between them; or empty. Each set once.
  void sample(std::string_view labels, double value);
  /// A histogram's samples. `within`: how many values each of `bounds` is not exceeded by.
  void histogram(std::string_view labels, std::span<const double> bounds,
                 std::span<const std::uint64_t> within, std::uint64_t count, double sum);

  std::string take() { return std::move(text_); }

 private:
  void line(std::string_view suffix, std::string_view labels, double value);

  std::string text_;
  std::string name_;
};

}  // namespace larder
