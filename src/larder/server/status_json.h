#pragma once

#include <nlohmann/json_fwd.hpp>

#include "larder/server/options.h"
#include "larder/server/status.h"

namespace larder::server {

/// The body of /status: what LMCache's commands and SDK read there, under their names, and what
/// only larder has under "larder". `is_healthy`: the loop runs. Pure.
///
/// An engine-driven worker stands under `cache_context_meta`, too, where LMCache's server has only
/// those of its other transfer mode: the SDK looks for a model's layout there.
nlohmann::ordered_json status_json(const ServerStatus& status, const ServerOptions& options,
                                   bool is_healthy);

/// The body of /config/adapters. A `type_name` is what `adapter` of /cache/objects takes. Pure.
nlohmann::ordered_json adapters_json(const ServerStatus& status);

/// The body of /degraded: whether something is not as it should be, and each reason in a sentence.
/// What went wrong once is a reason for five minutes. Pure.
nlohmann::ordered_json degraded_json(const ServerStatus& status, bool is_healthy);

}  // namespace larder::server
