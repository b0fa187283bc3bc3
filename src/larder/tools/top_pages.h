#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/tools/top_figures.h"

namespace larder::tools {

/// The fields that `larder top` reads from a server's pages besides its metrics.

/// Lookups within a while, in chunks.
struct LookupWindow {
  double asked = 0;
  double l1_share = 0;
  double l2_share = 0;
  std::map<std::string, double> missed = {};  ///< By reason.
};

struct StatusPage {
  std::optional<LookupWindow> minute = {};
  std::optional<LookupWindow> quarter = {};  ///< Of an hour.
  std::vector<WorkerRow> workers = {};       ///< In the order of their ids.
};

/// Of GET /degraded. Nothing: the text is no such page.
std::optional<std::vector<std::string>> parse_degraded(std::string_view text);
/// Of GET /status. Unexpected values are left out.
std::optional<StatusPage> parse_status(std::string_view text);

}  // namespace larder::tools
