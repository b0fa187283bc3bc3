#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "larder/server/status.h"

namespace larder::server {

/// The sources of a server's metrics, and the choice of them.
struct MetricsView {
  const ServerStatus& status;
  std::string_view instance_id;   ///< For `service_instance_id`.
  std::uint64_t silent_ns = 0;    ///< StatusBoard::Reading::silent_ns.
  bool has_lmcache_names = true;  ///< `--no-lmcache-metrics`.
};

/// Everything in Prometheus' text format 0.0.4: the server's own metrics (`larder_server_`,
/// `larder_engine_`), those of its connectors under the names of docs/metrics.md, and those that
/// LMCache's dashboard reads (`lmcache_mp_`). Every metric is there from the start, at zero.
///
/// Model names and salts are the clients': they become printable and short, and there are at most
/// cache::kSpacesCounted pairs of them and one for all others.
/// Pure. O(instances + tiers + spaces).
std::string metrics_text(const MetricsView& view);

/// docs/server_metrics.md, from the same tables (`larder server --metrics-markdown`).
std::string metrics_markdown();

}  // namespace larder::server
