#include "larder/connectors/fs/sha256.h"

#include <openssl/sha.h>

#include <array>
#include <string_view>

#include "larder/base/check.h"

namespace larder::fs {

std::string sha256_hex(std::span<const std::byte> data) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  const auto* const bytes = reinterpret_cast<const unsigned char*>(data.data());
  LARDER_CHECK(::SHA256(bytes, data.size(), digest.data()) != nullptr);
  std::string hex;
  for (const unsigned char byte : digest) {
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  return hex;
}

}  // namespace larder::fs
