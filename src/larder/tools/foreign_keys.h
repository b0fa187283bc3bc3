#pragma once

#include <atomic>
#include <string_view>

#include "larder/base/result.h"
#include "larder/connector/connector.h"

namespace larder::tools {

/// The check of every command that stores its own keys: refuses a connector that holds others',
/// which would be evicted. Own ones begin with `own_prefix`; empty: every key is another's.
///
/// Scans the keys if the connector can list them, until it finds one; otherwise its report's count
/// decides. A server that evicts by itself is refused as well. `what` describes the command, as in
/// "a benchmark". May block; `stop` ends it.
SetupStatus check_no_foreign_keys(Connector& connector, std::string_view own_prefix,
                                  std::string_view what, const std::atomic<bool>& stop);

}  // namespace larder::tools
