#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "larder/wire/blake3.h"

// BLAKE3 without its compression function: constants, the order of message words, and the tree over
// chunks of 1 KiB. Each blake3_*.cc supplies a compression function.

namespace larder::wire::blake3_internal {

static_assert(std::endian::native == std::endian::little,
              "Words are copied in and out without swapping bytes");

inline constexpr std::size_t kBlockBytes = 64;
inline constexpr std::size_t kChunkBytes = 1024;
inline constexpr std::size_t kRounds = 7;

enum Flag : std::uint32_t { kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8 };

using ChainingValue = std::array<std::uint32_t, 8>;
static_assert(sizeof(ChainingValue) == sizeof(Blake3Hash));

alignas(16) inline constexpr ChainingValue kInitial{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                                    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

/// kSchedule[r][i]: which word of the block is the i-th message word of round r.
inline constexpr auto kSchedule = [] {
  constexpr std::array<std::uint8_t, 16> kPermutation{2, 6,  3,  10, 7, 0,  4,  13,
                                                      1, 11, 12, 5,  9, 14, 15, 8};
  std::array<std::array<std::uint8_t, 16>, kRounds> schedule{};
  for (std::size_t i = 0; i < 16; ++i) schedule[0][i] = static_cast<std::uint8_t>(i);
  for (std::size_t r = 1; r < kRounds; ++r) {
    for (std::size_t i = 0; i < 16; ++i) schedule[r][i] = schedule[r - 1][kPermutation[i]];
  }
  return schedule;
}();

/// A vector implementation keeps the state as four rows of four words. It turns rows 0, 2 and 3 for
/// the diagonal step, never row 1, which is the one that the next addition waits for. Lane j of a
/// diagonal step is then the quarter round that begins at column (j + 3) % 4. kRowSchedule[r] has
/// the message words of round r in the order in which the lanes take them: four vectors.
inline constexpr auto kRowSchedule = [] {
  constexpr std::array<std::uint8_t, 16> kLanes{0,  2, 4,  6,  1,  3, 5,  7,
                                                14, 8, 10, 12, 15, 9, 11, 13};
  std::array<std::array<std::uint8_t, 16>, kRounds> schedule{};
  for (std::size_t r = 0; r < kRounds; ++r) {
    for (std::size_t i = 0; i < 16; ++i) schedule[r][i] = kSchedule[r][kLanes[i]];
  }
  return schedule;
}();

/// The chaining value of up to 1 KiB, of the tree's chunk `number`. `more` is kRoot or 0.
/// `Compression::compress(value, blocks, count, number, bytes, first, last)` replaces `value` by
/// its compression with `count` blocks one after another. `first` are the flags of the first block,
/// `last` those of the last (both, where there is one only); of the last block `bytes` count.
template <class Compression>
void hash_chunk(std::span<const std::byte> data, std::uint64_t number, std::uint32_t more,
                ChainingValue& value) noexcept {
  value = kInitial;
  const std::uint32_t last = kChunkEnd | more;
  const std::size_t whole_blocks = data.size() / kBlockBytes;
  const std::size_t rest_bytes = data.size() % kBlockBytes;
  if (rest_bytes == 0 && whole_blocks > 0) {
    Compression::compress(value, data.data(), whole_blocks, number, kBlockBytes, kChunkStart, last);
    return;
  }
  if (whole_blocks > 0) {
    Compression::compress(value, data.data(), whole_blocks, number, kBlockBytes, kChunkStart, 0);
  }
  alignas(16) std::byte block[kBlockBytes]{};
  if (rest_bytes > 0) std::memcpy(block, data.data() + whole_blocks * kBlockBytes, rest_bytes);
  Compression::compress(value, block, 1, number, static_cast<std::uint32_t>(rest_bytes),
                        whole_blocks == 0 ? std::uint32_t{kChunkStart} : 0, last);
}

/// The chaining value of any number of bytes that begin with the tree's chunk `number`. Recurses
/// once for every doubling of the length.
template <class Compression>
void hash_subtree(std::span<const std::byte> data, std::uint64_t number, std::uint32_t more,
                  ChainingValue& value) noexcept {
  if (data.size() <= kChunkBytes) {
    hash_chunk<Compression>(data, number, more, value);
    return;
  }
  // The left part is the largest power of two of chunks that leaves something for the right.
  const std::size_t left_chunks = std::bit_floor((data.size() - 1) / kChunkBytes);
  const std::size_t left_bytes = left_chunks * kChunkBytes;
  alignas(16) std::byte children[2 * sizeof(ChainingValue)];
  ChainingValue child;
  // The right part first: in a chain of hashes only the left part waits for the hash before, and
  // the processor computes the right part in that time.
  hash_subtree<Compression>(data.subspan(left_bytes), number + left_chunks, 0, child);
  std::memcpy(children + sizeof(child), child.data(), sizeof(child));
  hash_subtree<Compression>(data.first(left_bytes), number, 0, child);
  std::memcpy(children, child.data(), sizeof(child));
  value = kInitial;
  Compression::compress(value, children, 1, 0, kBlockBytes, kParent, more);
}

template <class Compression>
Blake3Hash hash_data(std::span<const std::byte> data) noexcept {
  ChainingValue value;
  hash_subtree<Compression>(data, 0, kRoot, value);
  Blake3Hash hash;
  std::memcpy(hash.data(), value.data(), hash.size());
  return hash;
}

Blake3Hash hash_portable(std::span<const std::byte> data) noexcept;
#if defined(__x86_64__)
Blake3Hash hash_sse41(std::span<const std::byte> data) noexcept;     ///< Needs SSE4.1.
Blake3Hash hash_avx512vl(std::span<const std::byte> data) noexcept;  ///< Needs AVX-512 F and VL.
#endif

}  // namespace larder::wire::blake3_internal
