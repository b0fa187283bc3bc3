#include "larder/wire/chunk_hash.h"

#include <cstring>

#include "larder/base/check.h"
#include "larder/wire/limits.h"

namespace larder::wire {

const ChunkHash& no_chunk_hash() noexcept {
  static const ChunkHash kHash = blake3(std::array<std::byte, 12>{});
  return kHash;
}

ChunkHasher::ChunkHasher(std::uint32_t chunk_tokens)
    : chunk_tokens_(chunk_tokens), input_(sizeof(ChunkHash) + kTokenBytes * chunk_tokens) {
  LARDER_CHECK(chunk_tokens >= 1 && chunk_tokens <= limits::kChunkTokens);
}

std::span<std::byte> ChunkHasher::tokens() noexcept {
  return std::span{input_}.subspan(sizeof(ChunkHash));
}

ChunkHash ChunkHasher::hash(const ChunkHash& before, std::span<const std::byte> tokens) noexcept {
  LARDER_CHECK(tokens.size() == kTokenBytes * chunk_tokens_);
  std::memcpy(input_.data(), before.data(), before.size());
  if (tokens.data() != this->tokens().data()) {
    std::memcpy(input_.data() + before.size(), tokens.data(), tokens.size());
  }
  return blake3(input_);
}

}  // namespace larder::wire
