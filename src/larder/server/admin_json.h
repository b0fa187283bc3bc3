#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "larder/server/admin_command.h"

namespace larder::server {

// Bodies of /cache/checksums in the shapes of LMCache 0.5.6 and 0.5.7 (S28). All are pure;
// json_fields.h describes the errors.

/// {"block_ids": [1, 2], "chunk_size": 1, "instance_id": 7, "layerwise": false}. A missing field is
/// empty, 0 or false, as in LMCache; the service reports the ones it needs.
Result<ChecksumCommand, AdminError> read_checksums(std::string_view body);

/// The status that says so.
int http_code_of(AdminError::Kind kind) noexcept;

/// The answer to `command`, with its result.
nlohmann::ordered_json checksums_json(const ChecksumCommand& command, const AdminResult& result);

}  // namespace larder::server
