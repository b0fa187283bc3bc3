#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "larder/server/options.h"

namespace larder::server {

/// The configuration in the shape of LMCache's GET /config, of which its SDK reads `mp.chunk_size`,
/// `mp.shm_name` and `mp.separate_object_groups`; larder's own settings stand under "larder". What
/// is a tuning of something that larder does not have is left out. Specs are shown without their
/// secrets. `pool`: the name in /dev/shm (pool_name()); empty: none.
nlohmann::ordered_json config_json(const ServerOptions& options, const std::string& pool);

}  // namespace larder::server
