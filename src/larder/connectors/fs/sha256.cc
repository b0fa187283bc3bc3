#include "larder/connectors/fs/sha256.h"

#include <openssl/sha.h>

#include <array>

#include "larder/base/check.h"
#include "larder/base/key_text.h"

namespace larder::fs {

std::string sha256_hex(std::span<const std::byte> data) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  const auto* const bytes = reinterpret_cast<const unsigned char*>(data.data());
  LARDER_CHECK(::SHA256(bytes, data.size(), digest.data()) != nullptr);
  return hex_text(std::as_bytes(std::span{digest}));
}

}  // namespace larder::fs
