#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"

namespace larder::tools {

/// The numbers of one open store, as a process offers them in Prometheus' text format.
struct StoreNumbers {
  std::string type;
  std::string where;
  /// By the metric's name without "larder_" and, if it has one, its own label's value:
  /// "lookup_misses_total", "absent". Histograms are left out.
  std::map<std::pair<std::string, std::string>, double> values;

  double of(std::string_view name, std::string_view label_value = {}) const;
};

/// The numbers of stores in a text of Prometheus' format, store by store in the order of the text.
/// Errors are those of read_samples().
SetupResult<std::vector<StoreNumbers>> parse_metrics(std::string_view text);

/// For people: requests, hits, the reasons of misses, and times, since each store was opened and
/// within the last minute.
std::string stats_text(const std::vector<StoreNumbers>& stores);
/// {"ok": true, "stores": [...]}: the numbers of each under their flat names, and the hit rates.
std::string stats_json(const std::vector<StoreNumbers>& stores);

}  // namespace larder::tools
