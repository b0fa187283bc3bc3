#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "larder/base/result.h"

namespace larder::server {

/// LMCache's type `valkey` has a client of its own and other names than larder: rewrites an adapter
/// of that form (it has "startup_nodes") into larder's parameters, and leaves all others alone. A
/// cluster is refused.
SetupStatus translate_valkey(nlohmann::ordered_json& adapter, std::vector<std::string>& notices);

}  // namespace larder::server
