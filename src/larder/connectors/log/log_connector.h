#pragma once

#include "larder/connector/registry.h"

namespace larder::log_store {

/// `log:` - larder's default on a machine's own disk: a preallocated log of segments with an index
/// in memory. Rules and formats: docs/format_log.md.
const ConnectorType& connector_type();

}  // namespace larder::log_store
