#include "larder/wire/chunk_hash.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "larder/base/random.h"
#include "larder/wire/limits.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

enum class Rule { kFromZero, kFromOne, kFromFive, kDownToZero, kZeros, kLargest, kScattered };

std::uint32_t token(Rule rule, std::uint64_t i, std::uint64_t count) {
  switch (rule) {
    case Rule::kFromZero:
      return static_cast<std::uint32_t>(i);
    case Rule::kFromOne:
      return static_cast<std::uint32_t>(i + 1);
    case Rule::kFromFive:
      return static_cast<std::uint32_t>(i + 5);
    case Rule::kDownToZero:
      return static_cast<std::uint32_t>(count - 1 - i);
    case Rule::kZeros:
      return 0;
    case Rule::kLargest:
      return 0xFFFF'FFFF;
    case Rule::kScattered:
      break;
  }
  return static_cast<std::uint32_t>(i * 2'654'435'761U % 151'643);
}

/// LMCache 0.5.6's result for a chain: the hashes of the chunk number `chunk` and of the last full
/// chunk.
struct Chain {
  std::uint32_t chunk_tokens;
  std::uint64_t tokens;
  Rule rule;
  std::size_t chunk;
  std::string_view hash;
  std::string_view last_hash;
};

constexpr Chain kChains[] = {
    {4, 4, Rule::kFromOne, 0, "6309ed506b8721905753f5c73c070bb21c3aafbd9b474b1e231f41368b71123c",
     "6309ed506b8721905753f5c73c070bb21c3aafbd9b474b1e231f41368b71123c"},
    {4, 8, Rule::kFromOne, 0, "6309ed506b8721905753f5c73c070bb21c3aafbd9b474b1e231f41368b71123c",
     "98efc76eafb06cfe774c31ff151f300b61a614c27982a211bb8cdbd83a8c0e19"},
    {4, 11, Rule::kFromOne, 0, "6309ed506b8721905753f5c73c070bb21c3aafbd9b474b1e231f41368b71123c",
     "98efc76eafb06cfe774c31ff151f300b61a614c27982a211bb8cdbd83a8c0e19"},
    {16, 16, Rule::kFromZero, 0, "32748aa00c5090e4f0e1f149078a07381f4f618d898c1cbac17e36521c3de48f",
     "32748aa00c5090e4f0e1f149078a07381f4f618d898c1cbac17e36521c3de48f"},
    {16, 16, Rule::kLargest, 0, "d3bf416a34f2aed57a0ffb95f3af76fd7e7ac1c2da83850723f215ec70a58dde",
     "d3bf416a34f2aed57a0ffb95f3af76fd7e7ac1c2da83850723f215ec70a58dde"},
    {16, 32, Rule::kZeros, 0, "125168dc0532a2ab2f01072edafa7d0bd6f34d6e0e43433fef21f2c9fe756214",
     "ca5989399774dea596075a3425f172801923d47138364c4211f6305795300ad9"},
    {16, 16, Rule::kDownToZero, 0,
     "62aace1768472a500cb263460a516fdc9a7e4e5596cbc1d7e6d654a904e2a01d",
     "62aace1768472a500cb263460a516fdc9a7e4e5596cbc1d7e6d654a904e2a01d"},
    {16, 64, Rule::kFromZero, 1, "b41527751e5bac5a664450d89585d03c64c3985924969dfb1808b151dd214695",
     "e30951bdba46dfa24f01f3dad60b5261251a467610bae5662acdeca8db0b05c3"},
    {16, 48, Rule::kFromZero, 1, "b41527751e5bac5a664450d89585d03c64c3985924969dfb1808b151dd214695",
     "320e30afd39a7564af8275d2395baf6b3011f85f8659a7bc75725adb4be6a072"},
    {16, 40, Rule::kFromZero, 0, "32748aa00c5090e4f0e1f149078a07381f4f618d898c1cbac17e36521c3de48f",
     "b41527751e5bac5a664450d89585d03c64c3985924969dfb1808b151dd214695"},
    {256, 512, Rule::kFromZero, 0,
     "084547b6c40ed5b05ba8cd0305db5bf74d5617673948d9ed193ab7d6cbc484d4",
     "e5ffee45c2b9db326814c9692dc594369887ba3b0df5761817820b60f864c8e0"},
    {1, 3, Rule::kFromFive, 0, "86f75d51e3e8beb1d50851f8e66dc6de103230ab2860e7f6732728b0cd663ade",
     "7e6fe98040f174cf7b39c9ca0ff8e24872e30e2492656638372c5142adb90bd9"},
    {248, 496, Rule::kFromZero, 0,
     "5b97c6a92347c4fe14fe9c51fd721ddad3dc46f0cb47cc2730b33bc0035ade3c",
     "cc6b061c8e5d6cb143d2c3f2bbec0f1059fed014b90598e70af0aadcf9fc6012"},
    {249, 498, Rule::kFromZero, 0,
     "60bea58b99c3e2e6c95ea05989177e15a58178fd8bbe5b13dbf1fdbdd652c85c",
     "852534b98e44b48d68b4ac8b9fac93bf2720a272a89beec6bfb6f73ddd157c0a"},
    {512, 1024, Rule::kFromZero, 0,
     "f279d5b5fdbad1f7c2785e4067532d12e2d7889bc57768fa4407685556f7b7c6",
     "ef64a793a2233c6aa1d713bac519929609b6c90de0759da4fc2a683eb2901c80"},
    {1024, 2048, Rule::kScattered, 0,
     "f2176fcc43647ca1bdf7aeb55efee2165c6b18a8c9e2a2892c58e5c152210ee0",
     "f781777b66362d355f82f1731539f5845f2e9736b639fb9f3e864feb4b970768"},
    {256, 131072, Rule::kScattered, 510,
     "fdf60b297972e85dea73d8226ba6a40ab307a627ab902d6adc072dd75b52ad3e",
     "34ad8cf25d2305729f5903173e40aeabf0b618677d2e553338b706b03a9a618b"},
};

std::vector<ChunkHash> hashes_of(const Chain& chain) {
  std::vector<std::uint32_t> tokens(chain.tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = token(chain.rule, i, chain.tokens);
  const Bytes packed = pack(tokens);
  ChunkHasher hasher{chain.chunk_tokens};
  std::vector<ChunkHash> hashes;
  ChunkHash before = no_chunk_hash();
  const std::size_t chunk_bytes = kTokenBytes * chain.chunk_tokens;
  for (std::size_t at = 0; at + chunk_bytes <= packed.size(); at += chunk_bytes) {
    before = hasher.hash(before, std::span{packed}.subspan(at, chunk_bytes));
    hashes.push_back(before);
  }
  return hashes;
}

TEST(ChunkHashTest, BeginsWithTheHashOfTwelveZeroBytes) {
  EXPECT_EQ(hex(no_chunk_hash()),
            "7e3eff9ef7613a50340eb12677ee03b83ac759fcba9bb32705f07248d56d473b");
}

TEST(ChunkHashTest, GivesTheHashesOfLmcache) {
  for (const Chain& chain : kChains) {
    SCOPED_TRACE(testing::Message() << "chunks of " << chain.chunk_tokens << ", " << chain.tokens
                                    << " tokens, chunk " << chain.chunk);
    const auto hashes = hashes_of(chain);
    ASSERT_EQ(hashes.size(), chain.tokens / chain.chunk_tokens);
    EXPECT_EQ(hex(hashes.at(chain.chunk)), chain.hash);
    EXPECT_EQ(hex(hashes.back()), chain.last_hash);
  }
}

TEST(ChunkHashTest, TakesTokensThatWereUnpackedInPlace) {
  constexpr std::uint64_t kSeed = 21;
  SCOPED_TRACE(kSeed);
  Random random{kSeed};
  for (const std::uint32_t chunk_tokens : {1U, 16U, 256U, limits::kChunkTokens}) {
    ChunkHasher hasher{chunk_tokens};
    Bytes tokens(kTokenBytes * chunk_tokens);
    random.fill(tokens);
    const ChunkHash copied = hasher.hash(no_chunk_hash(), tokens);
    std::ranges::copy(tokens, hasher.tokens().begin());
    EXPECT_EQ(hasher.hash(no_chunk_hash(), hasher.tokens()), copied);
    EXPECT_NE(hasher.hash(copied, tokens), copied);
  }
}

}  // namespace
}  // namespace larder::wire
