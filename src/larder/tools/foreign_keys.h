#pragma once

#include <atomic>
#include <string_view>

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::tools {

/// The guard of every command that stores keys of its own: refuses a connector that holds others',
/// which would be pushed out. Own ones begin with `own_prefix`; empty: every key is another's.
///
/// Looks through the keys where the connector can list them, until it finds one; else what its
/// report counts decides. A server that evicts by itself is refused as well. `what` is the
/// command's, as in "a benchmark". May block; `stop` ends it.
SetupStatus check_no_foreign_keys(Connector& connector, std::string_view own_prefix,
                                  std::string_view what, const std::atomic<bool>& stop);

}  // namespace larder::tools
