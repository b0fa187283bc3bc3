// BLAKE3's compression with AVX-512VL: as with SSE4.1, with a rotation in one instruction and the
// message of a round put in order by one.
#include "larder/wire/blake3_tree.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LARDER_AVX512 __attribute__((target("avx512f,avx512vl"), always_inline)) inline

namespace larder::wire::blake3_internal {
namespace {

alignas(64) constexpr auto kWordOrder = [] {
  std::array<std::array<std::int32_t, 16>, kRounds> order{};
  for (std::size_t r = 0; r < kRounds; ++r) {
    for (std::size_t i = 0; i < 16; ++i) order[r][i] = kRowSchedule[r][i];
  }
  return order;
}();

template <int kFirst, int kSecond>
LARDER_AVX512 void mix(__m128i (&rows)[4], __m128i words) noexcept {
  // Row 1 is the last to be ready, so it is added last. g++ would add it to the words first; the
  // empty statement keeps the order.
  __m128i sum = _mm_add_epi32(rows[0], words);
  __asm__("" : "+x"(sum));
  rows[0] = _mm_add_epi32(sum, rows[1]);
  rows[3] = _mm_ror_epi32(_mm_xor_si128(rows[3], rows[0]), kFirst);
  rows[2] = _mm_add_epi32(rows[2], rows[3]);
  rows[1] = _mm_ror_epi32(_mm_xor_si128(rows[1], rows[2]), kSecond);
}

/// Four message words. The masked forms compute the same; g++ 12's own headers warn about the
/// unmasked ones.
template <int kPart>
LARDER_AVX512 __m128i part(__m512i words) noexcept {
  return _mm512_maskz_extracti32x4_epi32(0xF, words, kPart);
}

LARDER_AVX512 void round(__m128i (&rows)[4], __m512i words) noexcept {
  mix<16, 12>(rows, part<0>(words));
  mix<8, 7>(rows, part<1>(words));
  rows[0] = _mm_shuffle_epi32(rows[0], _MM_SHUFFLE(2, 1, 0, 3));
  rows[2] = _mm_shuffle_epi32(rows[2], _MM_SHUFFLE(0, 3, 2, 1));
  rows[3] = _mm_shuffle_epi32(rows[3], _MM_SHUFFLE(1, 0, 3, 2));
  mix<16, 12>(rows, part<2>(words));
  mix<8, 7>(rows, part<3>(words));
  rows[0] = _mm_shuffle_epi32(rows[0], _MM_SHUFFLE(0, 3, 2, 1));
  rows[2] = _mm_shuffle_epi32(rows[2], _MM_SHUFFLE(2, 1, 0, 3));
  rows[3] = _mm_shuffle_epi32(rows[3], _MM_SHUFFLE(1, 0, 3, 2));
}

struct Avx512vl {
  __attribute__((target("avx512f,avx512vl"))) static void compress(
      ChainingValue& value, const std::byte* blocks, std::size_t count, std::uint64_t number,
      std::uint32_t bytes, std::uint32_t first, std::uint32_t last) noexcept {
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
      const __m512i words = _mm512_loadu_si512(blocks);
      for (const auto& order : kWordOrder) {
        round(rows, _mm512_maskz_permutexvar_epi32(0xFFFF, _mm512_load_si512(order.data()), words));
      }
      rows[0] = _mm_xor_si128(rows[0], rows[2]);
      rows[1] = _mm_xor_si128(rows[1], rows[3]);
    }
    _mm_storeu_si128(halves, rows[0]);
    _mm_storeu_si128(halves + 1, rows[1]);
    _mm256_zeroupper();  // Or the thread's SSE code runs slower from here on (base/hash.cc).
  }
};

}  // namespace

Blake3Hash hash_avx512vl(std::span<const std::byte> data) noexcept {
  return hash_data<Avx512vl>(data);
}

}  // namespace larder::wire::blake3_internal
#endif
