#pragma once

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::tools {

/// Stops a connector whose batches have all been reaped, waiting for up to half a minute: a store
/// seals and syncs here. What it could not finish is an error that says so.
SetupStatus stop_connector(Connector& connector);

}  // namespace larder::tools
