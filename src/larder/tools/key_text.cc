#include "larder/tools/key_text.h"

#include <charconv>

namespace larder::tools {

std::string escape_key(std::string_view key) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(key.size());
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\') {
      text += "\\\\";
    } else if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += "\\x";
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
  }
  return text;
}

SetupResult<std::string> unescape_key(std::string_view text) {
  std::string key;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      key += text[i];
      continue;
    }
    const std::string_view rest = text.substr(i + 1);
    if (rest.starts_with('\\')) {
      key += '\\';
      i += 1;
      continue;
    }
    unsigned value = 0;
    const std::string_view digits = rest.substr(0, 3).substr(rest.starts_with('x') ? 1 : 0);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (!rest.starts_with('x') || digits.size() != 2 || error != std::errc{} ||
        end != digits.data() + digits.size()) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "the key '" + std::string{text.substr(0, 200)} +
                            "' has a backslash at position " + std::to_string(i + 1) +
                            " that begins neither \\\\ nor \\xNN; write keys as --list shows them"};
    }
    key += static_cast<char>(value);
    i += 3;
  }
  return key;
}

}  // namespace larder::tools
