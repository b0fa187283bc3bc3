#pragma once

#include <string>
#include <string_view>

#include "larder/connector/registry.h"

namespace larder::plugin {

/// Loads a shared object and adds the connector type that it describes (larder/plugin.h). It stays
/// loaded until the process ends, even if it is refused.
///
/// An error names the file, the fault and the remedy: a missing file, a file that is not a shared
/// object, no larder_plugin(), another version of the interface, an incomplete description, a name
/// that the registry has already. Call it from one thread, before the registry is used.
SetupStatus load(const std::string& path, Registry& registry);

/// Loads the paths in `paths`, separated by ':', in order. The first refused plugin makes the
/// registry refuse every spec (Registry::refuse).
void load_all(std::string_view paths, Registry& registry);

/// The paths in LARDER_PLUGINS. Empty if it is not set, and in a process that runs with more
/// rights than its user (setuid, capabilities).
std::string_view paths_of_environment() noexcept;

}  // namespace larder::plugin
