#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/connector/registry.h"
#include "larder/server/options.h"

namespace larder::server {

/// The connector types that a server can name.
struct ConnectorSource {
  const Registry* registry = nullptr;
  /// For a process with a Python interpreter: reads a spec that may name a connector in Python
  /// (python_registry.h), and takes the GIL for it. Empty: Spec::parse(), and such a spec is an
  /// error that says so.
  std::function<SetupResult<Spec>(std::string_view text)> resolve = {};
};

struct ReadAdapter {
  L2Adapter adapter;
  std::vector<std::string> notices;  ///< Settings that were accepted and have no effect here.
};

/// Reads one value of `--l2-adapter`: a URL, or JSON in larder's spelling or in LMCache's.
///
/// "load", "store", "min_hits", "fill" and "touch" are the server's (TierOptions), unless the
/// connector's
///   type has a parameter of that name itself, as `tiered` does.
/// LMCache's common keys: "eviction" needs a connector with a capacity, which then evicts by
///   itself; "persist_enabled" and "shared" have no effect; "affinity_tag" must be "_default";
///   "serde" is refused.
/// `plugin` and `native_plugin`: larder's own classes become the spec that they name, other ones
///   the type `python` where the registry has it. A type that larder has no connector for is an
///   error with the one to use instead.
/// `may_load_code`: false for specs from the environment (P9): a connector in Python is then
///   refused, a nested one likewise.
/// Opens nothing. No error shows a parameter's value, which may be a password.
SetupResult<ReadAdapter> read_l2_adapter(std::string_view text, bool may_load_code,
                                         const ConnectorSource& source);

}  // namespace larder::server
