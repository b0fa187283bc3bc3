#pragma once

#include <string>

#include "larder/connector/registry.h"

namespace larder::tools {

/// Every metric that a store of these types can have, with its meaning: those of all connectors,
/// those that a door adds, and then type by type. As in docs/metrics.md, or for a terminal.
std::string list_metrics(const Registry& registry, bool is_markdown);

}  // namespace larder::tools
