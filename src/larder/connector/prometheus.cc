#include "larder/connector/prometheus.h"

#include <fmt/format.h>

#include <iterator>

namespace larder {

std::string prometheus_label(std::string_view name, std::string_view value) {
  std::string text{name};
  text += "=\"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
    } else {
      if (c == '\\' || c == '"') text += '\\';
      text += c;
    }
  }
  return text += '"';
}

void PrometheusWriter::begin(std::string_view name, MetricKind kind, std::string_view help) {
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {0} {1}\n# TYPE {0} {2}\n", name, help,
                 metric_kind_name(kind));
}

void PrometheusWriter::sample(std::string_view labels, double value) {
  line("", labels, value);
}

void PrometheusWriter::histogram(std::string_view labels, std::span<const double> bounds,
                                 std::span<const std::uint64_t> within, std::uint64_t count,
                                 double sum) {
  const std::string before = labels.empty() ? "" : std::string{labels} + ",";
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    line("_bucket", before + prometheus_label("le", fmt::format("{}", bounds[i])),
         static_cast<double>(within[i]));
  }
  line("_bucket", before + "le=\"+Inf\"", static_cast<double>(count));
  line("_sum", labels, sum);
  line("_count", labels, static_cast<double>(count));
}

void PrometheusWriter::line(std::string_view suffix, std::string_view labels, double value) {
  text_.append(name_).append(suffix);
  if (!labels.empty()) text_.append("{").append(labels).append("}");
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
}

}  // namespace larder
