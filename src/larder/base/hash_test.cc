#include "larder/base/hash.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include <algorithm>
#include <vector>

namespace larder {
namespace {

constexpr std::uint64_t kPrime64 = 0x9E3779B185EBCA8DU;

/// The data of xxHash's own sanity check.
std::vector<std::byte> sanity_data(std::size_t bytes) {
  std::vector<std::byte> data(bytes);
  std::uint64_t generator = 2654435761U;
  for (auto& byte : data) {
    byte = static_cast<std::byte>(generator >> 56);
    generator *= 11400714785074694797U;
  }
  return data;
}

struct KnownAnswer {
  std::size_t bytes;
  std::uint64_t seed;
  std::uint64_t hash64;
  Hash128 hash128;
};

// xxHash's published sanity values; they cross every length class of the algorithm.
constexpr KnownAnswer kKnownAnswers[] = {
    {0, 0, 0x2d06800538d394c2, {0x6001c324468d497f, 0x99aa06d3014798d8}},
    {0, kPrime64, 0xa8a6b918b2f0364a, {0xa986dfc5d7605bfe, 0x00feaa732a3ce25e}},
    {1, 0, 0xc44bdff4074eecdb, {0xc44bdff4074eecdb, 0xa6cd5e9392000f6a}},
    {1, kPrime64, 0x032be332dd766ef8, {0x032be332dd766ef8, 0x20e49abcc53b3842}},
    {6, 0, 0x27b56a84cd2d7325, {0x3e7039bdda43cfc6, 0x082afe0b8162d12a}},
    {12, 0, 0xa713daf0dfbb77e7, {0x061a192713f69ad9, 0x6e3efd8fc7802b18}},
    {24, 0, 0xa3fe70bf9d3510eb, {0x1e7044d28b1b901d, 0x0ce966e4678d3761}},
    {48, 0, 0x397da259ecba1f11, {0xf942219aed80f67b, 0xa002ac4e5478227e}},
    {81, 0, 0x7bc96f2ee88df87d, {0x5e8bafb9f95fb803, 0x4952f58181ab0042}},
    {222, 0, 0xb9163b558664d356, {0xf1aebd597cec6b3a, 0x337e09641b948717}},
    {222, kPrime64, 0xcd627e7ca214ebfd, {0xc5871b3be4506a30, 0x4740af1ae0618b49}},
    {403, 0, 0xcdeb804d65c6dea4, {0xcdeb804d65c6dea4, 0x1b6de21e332dd73d}},
    {512, 0, 0x617e49599013cb6b, {0x617e49599013cb6b, 0x18d2d110dcc9bca1}},
    {2048, 0, 0xdd59e2c3a5f038e0, {0xdd59e2c3a5f038e0, 0xf736557fd47073a5}},
    {2048, kPrime64, 0x66f81670669ababc, {0x66f81670669ababc, 0x23cc3a2e75ebaaea}},
    {2240, 0, 0x6e73a90539cf2948, {0x6e73a90539cf2948, 0xccb134fbfa7ce49d}},
    {2367, 0, 0xcb37aeb9e5d361ed, {0xcb37aeb9e5d361ed, 0xe89c0f6ff369b427}},
    {2367, kPrime64, 0xd2db3415b942b42a, {0xd2db3415b942b42a, 0xccb7a94cca1a6496}},
};

TEST(HashTest, GivesThePublishedValues) {
  const auto data = sanity_data(2367);
  for (const auto& known : kKnownAnswers) {
    const auto input = std::span{data}.first(known.bytes);
    EXPECT_EQ(hash64(input, known.seed), known.hash64) << known.bytes;
    EXPECT_EQ(hash128(input, known.seed), known.hash128) << known.bytes;
    StreamingHash128 stream{known.seed};
    stream.update(input);
    EXPECT_EQ(stream.digest(), known.hash128) << known.bytes;
  }
}

TEST(HashTest, AgreesWithTheLibraryWithoutDispatchAtEveryLength) {
  const auto data = sanity_data(3000);
  for (std::size_t length = 0; length <= data.size(); ++length) {
    const auto input = std::span{data}.first(length);
    for (const std::uint64_t seed : {std::uint64_t{0}, kPrime64}) {
      const auto expected = XXH3_128bits_withSeed(input.data(), length, seed);
      const Hash128 hash = hash128(input, seed);
      ASSERT_EQ(hash.low, expected.low64) << length;
      ASSERT_EQ(hash.high, expected.high64) << length;
      ASSERT_EQ(hash64(input, seed), XXH3_64bits_withSeed(input.data(), length, seed)) << length;
    }
  }
}

TEST(HashTest, StreamEqualsOneShotAtEverySplit) {
  const auto data = sanity_data(1100);
  for (const std::size_t length :
       {0U, 1U, 16U, 17U, 128U, 129U, 240U, 241U, 255U, 256U, 257U, 512U, 1024U, 1100U}) {
    const auto input = std::span{data}.first(length);
    for (const std::uint64_t seed : {std::uint64_t{0}, kPrime64}) {
      const Hash128 expected = hash128(input, seed);
      for (std::size_t split = 0; split <= length; ++split) {
        StreamingHash128 stream{seed};
        stream.update(input.first(split));
        ASSERT_EQ(stream.digest(), hash128(input.first(split), seed)) << length << " " << split;
        stream.update(input.subspan(split));
        ASSERT_EQ(stream.digest(), expected) << length << " split at " << split;
      }
    }
  }
}

TEST(HashTest, StreamOfManySmallPiecesEqualsOneShot) {
  const auto data = sanity_data(10'000);
  for (const std::size_t piece : {1U, 7U, 63U, 64U, 65U, 300U, 4096U}) {
    StreamingHash128 stream;
    for (std::size_t at = 0; at < data.size(); at += piece) {
      stream.update(std::span{data}.subspan(at, std::min(piece, data.size() - at)));
    }
    EXPECT_EQ(stream.digest(), hash128(data)) << piece;
  }
}

TEST(HashTest, ResetForgetsEverythingAndTakesANewSeed) {
  const auto data = sanity_data(700);
  StreamingHash128 stream{kPrime64};
  stream.update(data);
  stream.reset();
  stream.update(std::span{data}.first(300));
  EXPECT_EQ(stream.digest(), hash128(std::span{data}.first(300)));
  stream.reset(42);
  stream.update(data);
  EXPECT_EQ(stream.digest(), hash128(data, 42));
}

TEST(HashTest, ACopyOfAStreamGoesOnByItself) {
  const auto data = sanity_data(900);
  StreamingHash128 stream{5};
  stream.update(std::span{data}.first(500));
  StreamingHash128 copy = stream;
  stream.update(std::span{data}.first(1));
  copy.update(std::span{data}.subspan(500));
  EXPECT_EQ(copy.digest(), hash128(data, 5));
}

#if defined(__x86_64__)
/// Whether the upper halves of the vector registers hold something, as the processor sees it.
__attribute__((target("xsave"))) bool are_upper_halves_in_use() {
  return (_xgetbv(1) & 4U) != 0;  // The bit of AVX's state.
}

__attribute__((target("avx,xsave"))) bool can_ask_for_upper_halves() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (!__builtin_cpu_supports("avx") || __get_cpuid_count(0xD, 1, &a, &b, &c, &d) == 0 ||
      (a & 4U) == 0) {
    return false;
  }
  _mm256_zeroupper();
  return !are_upper_halves_in_use();  // Some processors always say yes.
}

TEST(HashTest, LeavesNoVectorStateThatSlowsOtherCode) {
  if (!can_ask_for_upper_halves()) return;  // The state cannot be left, or is unknown.
  const auto data = sanity_data(100'000);
  StreamingHash128 stream;
  const Hash128 once = hash128(data);
  EXPECT_FALSE(are_upper_halves_in_use()) << "hash128";
  const std::uint64_t small = hash64(data);
  EXPECT_FALSE(are_upper_halves_in_use()) << "hash64";
  stream.update(data);
  EXPECT_FALSE(are_upper_halves_in_use()) << "StreamingHash128";
  EXPECT_EQ(stream.digest(), once);
  EXPECT_EQ(small, XXH3_64bits(data.data(), data.size()));
}
#endif

TEST(HashTest, NamesTheImplementationOfThisMachine) {
  const auto name = hash_implementation();
#if defined(__x86_64__)
  EXPECT_TRUE(name == "avx512" || name == "avx2" || name == "sse2") << name;
  EXPECT_EQ(name == "sse2", !__builtin_cpu_supports("avx2"));
#else
  EXPECT_EQ(name, "scalar");
#endif
}

}  // namespace
}  // namespace larder
