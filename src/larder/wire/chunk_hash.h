#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/wire/blake3.h"

namespace larder::wire {

/// The name of a chunk of tokens together with everything before it: BLAKE3 of the previous chunk's
/// hash and of the chunk's tokens, each as 32 bits, big-endian. Model, rank and salt are not in it.
/// The same bytes as LMCache's, so content in L2 is shared with LMCache's servers.
using ChunkHash = Blake3Hash;

/// The hash "before" the first chunk: BLAKE3 of 12 zero bytes.
const ChunkHash& no_chunk_hash() noexcept;

inline constexpr std::size_t kTokenBytes = 4;

/// Computes the hashes of one chain after another. Owns a buffer for one chunk, so make it once.
/// One thread at a time; no allocation after construction.
class ChunkHasher {
 public:
  /// `chunk_tokens` from 1 to limits::kChunkTokens.
  explicit ChunkHasher(std::uint32_t chunk_tokens);

  std::uint32_t chunk_tokens() const noexcept { return chunk_tokens_; }

  /// The hash of the chunk after the one with the hash `before`. `tokens` are the chunk's
  /// chunk_tokens(), packed: 4 bytes each, big-endian. May be the span that tokens() returns.
  ChunkHash hash(const ChunkHash& before, std::span<const std::byte> tokens) noexcept;

  /// Memory into which the next chunk's tokens can be unpacked, to save hash() a copy. Contents do
  /// not survive another call of hash().
  std::span<std::byte> tokens() noexcept;

 private:
  std::uint32_t chunk_tokens_;
  std::vector<std::byte> input_;  ///< The hash before, then the tokens.
};

}  // namespace larder::wire
