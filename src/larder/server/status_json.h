#pragma once

#include <nlohmann/json_fwd.hpp>

#include "larder/server/options.h"
#include "larder/server/status.h"

namespace larder::server {

/// The body of /status: the fields that LMCache's commands and SDK read, under their names, and
/// larder's own under "larder". `is_healthy`: the loop runs. Pure.
///
/// An engine-driven worker is listed under `cache_context_meta`, too, where LMCache's server has
/// only those of its other transfer mode: the SDK looks for a model's layout there.
nlohmann::ordered_json status_json(const ServerStatus& status, const ServerOptions& options,
                                   bool is_healthy);

/// The body of /config/adapters. A `type_name` is a value for `adapter` of /cache/objects. Pure.
nlohmann::ordered_json adapters_json(const ServerStatus& status);

/// The body of /degraded: whether something is not as it should be, and each reason in a sentence.
/// A single fault stays a reason for five minutes. Pure.
nlohmann::ordered_json degraded_json(const ServerStatus& status, bool is_healthy);

}  // namespace larder::server
