#pragma once

#include <string>

#include "larder/base/result.h"
#include "larder/connector/registry.h"

namespace larder::tools {

enum class ListFormat : std::uint8_t { kText = 1, kMarkdown, kJson };

/// The connector types of `registry` with their parameters; `type` empty: all of them, in text only
/// one line each. An unknown type is an error with the nearest name.
SetupResult<std::string> list_connectors(const Registry& registry, const std::string& type,
                                         ListFormat format);

}  // namespace larder::tools
