#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder {

// Bytes from outside as text for terminals, logs, errors and command lines. All functions are pure
// and may run in any thread.

/// The same bytes, as they are.
inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Two lower-case hexadecimal digits for each byte.
std::string hex_text(std::span<const std::byte> bytes);

/// A key as text: printable ASCII as it is, a backslash doubled, every other byte as \xNN. No two
/// keys have one text, and none can drive a terminal or begin a line.
std::string escape_key(std::string_view key);

/// Back. The error names the position of a backslash that begins no escape.
SetupResult<std::string> unescape_key(std::string_view text);

/// A message that may hold a path, a file's name or a peer's words, fit for a terminal and for one
/// line: UTF-8 stays as it is; control characters, line separators, characters that change the
/// direction of text, and bytes that are no UTF-8 become \xNN. Not reversible.
std::string printable(std::string_view text);

}  // namespace larder
