#pragma once

#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::tools {

/// Opens what a spec names, of the types that are built in, and says so in the log (info).
SetupResult<std::unique_ptr<Connector>> open_connector(const std::string& spec);

/// Stops a connector that a command is done with, and says so in the log (info): at most 30 seconds
/// for what is in flight. An error says that it did not stop cleanly.
SetupStatus stop_connector(Connector& connector);

}  // namespace larder::tools
