#pragma once

#include <span>

#include "larder/connector/registry.h"

namespace larder::resp {

/// `resp`, `redis`, `rediss` and `unix`: one connector under the names that people write.
std::span<const ConnectorType> connector_types();

}  // namespace larder::resp
