#include "larder/base/key_text.h"

#include <charconv>
#include <cstddef>
#include <cstdint>

namespace larder {
namespace {

void append_hex(std::string& text, unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  text += kDigits[byte >> 4];
  text += kDigits[byte & 15];
}

void append_escaped(std::string& text, unsigned char byte) {
  text += "\\x";
  append_hex(text, byte);
}

/// The character at the start of `text`: its length in bytes, 0 where it is no UTF-8.
struct Character {
  std::size_t bytes = 0;
  std::uint32_t code = 0;
};

Character first_character(std::string_view text) noexcept {
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) return {};
  std::uint32_t code = lead & (0x7FU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((at(i) & 0xC0U) != 0x80U) return {};
    code = (code << 6U) | (at(i) & 0x3FU);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[bytes] || code > 0x10FFFF || is_surrogate) return {};
  return {bytes, code};
}

/// Whether a terminal prints it and does nothing else.
bool is_shown(std::uint32_t code) noexcept {
  if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return false;        // C0, DEL, C1
  if (code == 0x061C || code == 0x200E || code == 0x200F) return false;  // Direction marks.
  if (code >= 0x2028 && code <= 0x202E) return false;  // Line separators, embeddings, overrides.
  return code < 0x2066 || code > 0x2069;               // Isolates.
}

}  // namespace

std::string hex_text(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) append_hex(text, std::to_integer<unsigned char>(byte));
  return text;
}

std::string escape_key(std::string_view key) {
  std::string text;
  text.reserve(key.size());
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\') {
      text += "\\\\";
    } else if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      append_escaped(text, byte);
    }
  }
  return text;
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Character character = first_character(text);
    const std::size_t bytes = character.bytes == 0 ? 1 : character.bytes;
    if (character.bytes > 0 && is_shown(character.code)) {
      result += text.substr(0, bytes);
    } else {
      for (const char c : text.substr(0, bytes)) {
        append_escaped(result, static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(bytes);
  }
  return result;
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
                        "the key '" + printable(text.substr(0, 200)) +
                            "' has a backslash at position " + std::to_string(i + 1) +
                            " that begins neither \\\\ nor \\xNN; write keys as --list shows them"};
    }
    key += static_cast<char>(value);
    i += 3;
  }
  return key;
}

}  // namespace larder
