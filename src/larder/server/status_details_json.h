#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "larder/server/options.h"
#include "larder/server/status.h"

namespace larder::server {

// Parts of "larder" in /status: the numbers that the page shows. docs/server.md describes each
// field. All are pure.

/// "state" (healthy, degraded, draining or down), and each fault: what, because of what, and the
/// remedy.
nlohmann::ordered_json health_json(const ServerStatus& status, bool is_healthy);

nlohmann::ordered_json evictions_json(const ServerStatus& status);
/// By "l1" and "l2": the hit rate with other capacities, null while it is not known. Without an
/// estimate the same capacity is null, too.
nlohmann::ordered_json what_if_json(const ServerStatus& status);
/// Each connector behind L1, in the order in which lookups use them.
nlohmann::ordered_json tiers_json(const ServerStatus& status);
nlohmann::ordered_json workers_json(const ServerStatus& status);
/// Tokens by salt and model: the first cache::kSpacesCounted, and one entry for all others.
nlohmann::ordered_json lookups_by_salt_json(const ServerStatus& status);

}  // namespace larder::server
