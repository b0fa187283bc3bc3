#include "larder/wire/blake3.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

/// The published test vectors' input.
std::vector<std::byte> vector_input(std::size_t bytes) {
  std::vector<std::byte> input(bytes);
  for (std::size_t i = 0; i < bytes; ++i) input[i] = static_cast<std::byte>(i % 251);
  return input;
}

struct Vector {
  std::size_t bytes;
  std::string_view hash;
};

// A part of the vectors that the authors of BLAKE3 publish: no data, one byte, and one chunk more
// or less around every shape of the tree.
constexpr Vector kVectors[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
    {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
    {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
    {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
    {3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"},
    {3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"},
    {4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969"},
    {4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995"},
    {5121, "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff"},
    {6145, "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f"},
    {7169, "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817"},
};

TEST(Blake3Test, GivesThePublishedValuesInEveryImplementation) {
  for (const auto& implementation : blake3_implementations()) {
    for (const Vector& vector : kVectors) {
      const auto input = vector_input(vector.bytes);
      EXPECT_EQ(hex(implementation.hash(input)), vector.hash)
          << implementation.name << ", " << vector.bytes << " bytes";
    }
  }
}

TEST(Blake3Test, HasThePortableImplementationLast) {
  EXPECT_EQ(blake3_implementations().back().name, "portable");
#if defined(__x86_64__)
  EXPECT_EQ(blake3_implementations().size(),
            1U + (__builtin_cpu_supports("sse4.1") != 0) +
                (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")));
#endif
}

TEST(Blake3Test, GivesTheSameInEveryImplementationAtAnyLengthAndAddress) {
  constexpr std::uint64_t kSeed = 20;
  SCOPED_TRACE(kSeed);
  Random random{kSeed};
  std::vector<std::byte> data(10'000);
  const auto all = blake3_implementations();
  for (int i = 0; i < 3000; ++i) {
    random.fill(data);
    const std::size_t offset = random.below(64);
    const std::size_t bytes = i < 2200 ? static_cast<std::size_t>(i) : random.below(9900);
    const auto input = std::span{data}.subspan(offset, bytes);
    const std::string expected = hex(all.back().hash(input));
    for (const auto& implementation : all) {
      ASSERT_EQ(hex(implementation.hash(input)), expected) << implementation.name << " " << bytes;
    }
    ASSERT_EQ(hex(blake3(input)), expected);
  }
}

}  // namespace
}  // namespace larder::wire
