// BLAKE3's compression with SSE4.1: four quarter rounds at a time, one row of the state a register.
#include "larder/wire/blake3_tree.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LARDER_SSE41 __attribute__((target("sse4.1"), always_inline)) inline

namespace larder::wire::blake3_internal {
namespace {

template <int kBits>
LARDER_SSE41 __m128i rotate(__m128i x) noexcept {
  if constexpr (kBits == 16) {
    return _mm_shuffle_epi8(x, _mm_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2));
  } else if constexpr (kBits == 8) {
    return _mm_shuffle_epi8(x, _mm_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1));
  } else {
    return _mm_or_si128(_mm_srli_epi32(x, kBits), _mm_slli_epi32(x, 32 - kBits));
  }
}

template <int kFirst, int kSecond>
LARDER_SSE41 void mix(__m128i (&rows)[4], __m128i words) noexcept {
  // Row 1 is the last to be ready, so it is added last. g++ would add it to the words first; the
  // empty statement keeps the order.
  __m128i sum = _mm_add_epi32(rows[0], words);
  __asm__("" : "+x"(sum));
  rows[0] = _mm_add_epi32(sum, rows[1]);
  rows[3] = rotate<kFirst>(_mm_xor_si128(rows[3], rows[0]));
  rows[2] = _mm_add_epi32(rows[2], rows[3]);
  rows[1] = rotate<kSecond>(_mm_xor_si128(rows[1], rows[2]));
}

/// Message words number 4 * part to 4 * part + 3 of a round, in the order of the lanes. Four loads
/// each: they do not wait for the state, so they cost no time in the chain.
template <std::size_t kRound, std::size_t kPart>
LARDER_SSE41 __m128i message(const std::byte* block) noexcept {
  constexpr auto& kOrder = kRowSchedule[kRound];
  std::int32_t words[4];
  for (std::size_t i = 0; i < 4; ++i) {
    std::memcpy(&words[i], block + 4 * std::size_t{kOrder[4 * kPart + i]}, 4);
  }
  return _mm_set_epi32(words[3], words[2], words[1], words[0]);
}

template <std::size_t kRound>
LARDER_SSE41 void round(__m128i (&rows)[4], const std::byte* block) noexcept {
  mix<16, 12>(rows, message<kRound, 0>(block));
  mix<8, 7>(rows, message<kRound, 1>(block));
  rows[0] = _mm_shuffle_epi32(rows[0], _MM_SHUFFLE(2, 1, 0, 3));
  rows[2] = _mm_shuffle_epi32(rows[2], _MM_SHUFFLE(0, 3, 2, 1));
  rows[3] = _mm_shuffle_epi32(rows[3], _MM_SHUFFLE(1, 0, 3, 2));
  mix<16, 12>(rows, message<kRound, 2>(block));
  mix<8, 7>(rows, message<kRound, 3>(block));
  rows[0] = _mm_shuffle_epi32(rows[0], _MM_SHUFFLE(0, 3, 2, 1));
  rows[2] = _mm_shuffle_epi32(rows[2], _MM_SHUFFLE(2, 1, 0, 3));
  rows[3] = _mm_shuffle_epi32(rows[3], _MM_SHUFFLE(1, 0, 3, 2));
}

struct Sse41 {
  __attribute__((target("sse4.1"))) static void compress(ChainingValue& value,
                                                         const std::byte* blocks, std::size_t count,
                                                         std::uint64_t number, std::uint32_t bytes,
                                                         std::uint32_t first,
                                                         std::uint32_t last) noexcept {
    auto* const halves = reinterpret_cast<__m128i*>(value.data());
    __m128i rows[4];
    rows[0] = _mm_loadu_si128(halves);
    rows[1] = _mm_loadu_si128(halves + 1);
    for (std::size_t i = 0; i < count; ++i, blocks += kBlockBytes) {
      const bool is_last = i + 1 == count;
      const std::uint32_t flags = (i == 0 ? first : 0) | (is_last ? last : 0);
      rows[2] = _mm_load_si128(reinterpret_cast<const __m128i*>(kInitial.data()));
      rows[3] =
          _mm_set_epi32(static_cast<int>(flags), static_cast<int>(is_last ? bytes : kBlockBytes),
                        static_cast<int>(number >> 32U), static_cast<int>(number));
      round<0>(rows, blocks);
      round<1>(rows, blocks);
      round<2>(rows, blocks);
      round<3>(rows, blocks);
      round<4>(rows, blocks);
      round<5>(rows, blocks);
      round<6>(rows, blocks);
      rows[0] = _mm_xor_si128(rows[0], rows[2]);
      rows[1] = _mm_xor_si128(rows[1], rows[3]);
    }
    _mm_storeu_si128(halves, rows[0]);
    _mm_storeu_si128(halves + 1, rows[1]);
  }
};

}  // namespace

Blake3Hash hash_sse41(std::span<const std::byte> data) noexcept {
  return hash_data<Sse41>(data);
}

}  // namespace larder::wire::blake3_internal
#endif
