#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "larder/server/options.h"

namespace larder::server {

/// The body of /config: what LMCache's SDK reads there, under its names. Pure.
nlohmann::json config_json(const ServerOptions& options, const std::string& pool_name);

}  // namespace larder::server
