#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "larder/connector/registry.h"

namespace larder::tools {

/// Whether a command's argument names a connector ("log:/data/kv?...", JSON) and not a directory. A
/// directory whose name has a colon is written as ./NAME.
bool is_spec(std::string_view target) noexcept;

/// By the built-in types.
SetupResult<ReadSpec> read_spec(std::string_view spec);

/// The directory itself, or the nearest one above it that exists.
std::filesystem::path nearest_existing(const std::string& directory);

/// The directory of a log store: `target` itself, a leading ~ expanded, or the path of a `log:`
/// spec. `command` begins the error that names another type.
SetupResult<std::string> log_directory_of(const std::string& target, std::string_view command);

}  // namespace larder::tools
