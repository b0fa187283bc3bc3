#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "larder/base/result.h"

namespace larder::server {

/// LMCache's type `valkey` has a client of its own and other names than larder's: rewrites an
/// adapter that is written so (it has "startup_nodes") into larder's parameters, and leaves every
/// other alone. A cluster is refused.
SetupStatus translate_valkey(nlohmann::ordered_json& adapter, std::vector<std::string>& notices);

}  // namespace larder::server
