#include "larder/tools/value_pattern.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "larder/base/random.h"

namespace larder::tools {
namespace {

constexpr std::size_t kPoolWords = 8192;
constexpr std::size_t kChunkWords = 512;
constexpr std::size_t kChunkBytes = kChunkWords * sizeof(std::uint64_t);

using Chunk = std::array<std::uint64_t, kChunkWords>;

/// The finisher of splitmix64: every bit of the seed and of the position reaches every bit.
std::uint64_t chunk_word(std::uint64_t seed, std::size_t chunk) noexcept {
  std::uint64_t z = seed + (static_cast<std::uint64_t>(chunk) + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

}  // namespace

ValuePattern::ValuePattern() : pool_(kPoolWords) {
  Random random{0x6C6172646572};
  for (std::uint64_t& word : pool_) word = random.next();
}

void ValuePattern::fill(std::uint64_t seed, std::span<std::byte> value) const noexcept {
  for (std::size_t begin = 0, chunk = 0; begin < value.size(); begin += kChunkBytes, ++chunk) {
    const std::uint64_t* const source = pool_.data() + chunk * kChunkWords % kPoolWords;
    const std::uint64_t mask = chunk_word(seed, chunk);
    Chunk words;
    for (std::size_t i = 0; i < kChunkWords; ++i) words[i] = source[i] ^ mask;
    std::memcpy(value.data() + begin, words.data(), std::min(kChunkBytes, value.size() - begin));
  }
}

std::optional<std::size_t> ValuePattern::first_difference(
    std::uint64_t seed, std::span<const std::byte> value) const noexcept {
  for (std::size_t begin = 0, chunk = 0; begin < value.size(); begin += kChunkBytes, ++chunk) {
    const std::uint64_t* const source = pool_.data() + chunk * kChunkWords % kPoolWords;
    const std::uint64_t mask = chunk_word(seed, chunk);
    Chunk words;
    for (std::size_t i = 0; i < kChunkWords; ++i) words[i] = source[i] ^ mask;
    const std::size_t bytes = std::min(kChunkBytes, value.size() - begin);
    if (std::memcmp(value.data() + begin, words.data(), bytes) == 0) continue;
    std::array<std::byte, kChunkBytes> expected;
    std::memcpy(expected.data(), words.data(), kChunkBytes);
    std::size_t at = 0;
    while (value[begin + at] == expected[at]) ++at;
    return begin + at;
  }
  return std::nullopt;
}

}  // namespace larder::tools
