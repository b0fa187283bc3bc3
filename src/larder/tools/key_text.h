#pragma once

#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder::tools {

/// A key as text for people and command lines: printable ASCII as it is, a backslash doubled, every
/// other byte as \xNN. No two keys have one text, and none can drive a terminal.
std::string escape_key(std::string_view key);

/// Back. An error names the place of a backslash that begins nothing.
SetupResult<std::string> unescape_key(std::string_view text);

}  // namespace larder::tools
