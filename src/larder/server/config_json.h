#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "larder/server/options.h"

namespace larder::server {

/// The configuration in the shape of LMCache's GET /config, from which its SDK reads
/// `mp.chunk_size`, `mp.shm_name` and `mp.separate_object_groups`; larder's own settings are under
/// "larder". Settings of parts that larder does not have are left out. Specs are shown without
/// their secrets. `pool`: the name in /dev/shm (pool_name()); empty: none.
nlohmann::ordered_json config_json(const ServerOptions& options, const std::string& pool);

/// How L1 evicts, in LMCache's words: `eviction_policy`, `trigger_watermark`, `eviction_ratio`.
nlohmann::ordered_json eviction_json(const cache::EngineOptions& engine);

}  // namespace larder::server
