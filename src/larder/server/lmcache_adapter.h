#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/result.h"
#include "larder/connector/registry.h"
#include "larder/connector/spec.h"

namespace larder::server {

/// An adapter's JSON, taken apart.
struct LmcacheAdapter {
  Spec spec;
  /// It names a Python class in the registry's own form already, and needs no resolution.
  bool is_python = false;
  std::map<std::string, std::string, std::less<>> tier;  ///< The server's own (TierOptions).
  bool has_eviction = false;  ///< An "eviction" block that larder's own eviction can stand for.
  std::vector<std::string> notices;
};

/// The remedy where a class of Python is named and the process has no interpreter.
inline constexpr std::string_view kStartFromPython =
    "start it from the Python package instead: python -m larder server, with the same options";

/// Reads the JSON of LMCache's `--l2-adapter`, which is also that of larder's specs; see
/// read_l2_adapter(). Errors have no "--l2-adapter" before them.
SetupResult<LmcacheAdapter> parse_lmcache_adapter(std::string_view text, const Registry& registry);

/// Moves the fields of `tier` that `type` does not use itself out of `spec`.
void take_tier_parameters(Spec& spec, const ConnectorType* type,
                          std::map<std::string, std::string, std::less<>>& tier);

/// LMCache's types that larder does not have, each with its replacement.
std::span<const std::pair<std::string_view, std::string_view>> absent_types() noexcept;
/// The replacement for such a type; empty: it is not one.
std::string_view instead_of(std::string_view type) noexcept;

}  // namespace larder::server
