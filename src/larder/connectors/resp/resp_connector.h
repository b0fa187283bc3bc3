#pragma once

#include <memory>
#include <span>

#include "larder/connector/registry.h"
#include "larder/connectors/resp/options.h"

namespace larder::resp {

/// Does not wait for the server: it is looked for from then on.
SetupResult<std::unique_ptr<Connector>> open_connector(RespOptions options);

/// `resp`, `redis`, `rediss` and `unix`: one connector under the names that people write.
std::span<const ConnectorType> connector_types();

}  // namespace larder::resp
