#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"

namespace larder::tools {

/// One line of Prometheus' text format.
struct MetricSample {
  std::string name;  ///< Without "larder_".
  std::map<std::string, std::string> labels;
  double value = 0;  ///< NaN where the text has an infinity or none.
};

inline constexpr std::size_t kMetricSamplesMax = 200'000;

/// larder's samples in a text of Prometheus' format, in its order; those of others are skipped. An
/// error names the line that violates the format: one of larder's, or the first one of a text that
/// has none of larder's. Also an error: more than kMetricSamplesMax.
SetupResult<std::vector<MetricSample>> read_samples(std::string_view text);

}  // namespace larder::tools
