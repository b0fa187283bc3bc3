#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What the tests of this folder share.
namespace larder::wire {

using Bytes = std::vector<std::byte>;

inline std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[static_cast<unsigned>(byte) >> 4U];
    text += kDigits[static_cast<unsigned>(byte) & 15U];
  }
  return text;
}

/// Of lower-case digits only.
inline Bytes from_hex(std::string_view text) {
  const auto digit = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  Bytes bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
  }
  return bytes;
}

/// Four bytes a token, big-endian.
inline Bytes pack(std::span<const std::uint32_t> tokens) {
  Bytes packed;
  for (const std::uint32_t token : tokens) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
      packed.push_back(static_cast<std::byte>(token >> shift));
    }
  }
  return packed;
}

}  // namespace larder::wire
