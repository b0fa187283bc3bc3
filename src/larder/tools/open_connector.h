#pragma once

#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::tools {

/// Opens the connector that a spec names, of the built-in types, and logs it (info).
SetupResult<std::unique_ptr<Connector>> open_connector(const std::string& spec);

/// Stops a command's connector, and logs it (info): waits up to 30 seconds for operations in
/// flight. An error says that it did not stop cleanly.
SetupStatus stop_connector(Connector& connector);

}  // namespace larder::tools
