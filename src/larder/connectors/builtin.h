#pragma once

#include "larder/connector/registry.h"

namespace larder {

/// The connector types of this build and of the plugins in LARDER_PLUGINS (larder/plugin.h), which
/// the first call loads. If a plugin cannot be loaded, opening any spec is an error that names the
/// plugin and the reason. Any thread.
const Registry& builtin_registry();

}  // namespace larder
