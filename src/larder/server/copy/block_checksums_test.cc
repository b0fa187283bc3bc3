#include "larder/server/copy/block_checksums.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "larder/server/copy/copy_test_support.h"
#include "larder/server/copy/fault_guard.h"

namespace larder::server {
namespace {

/// With the checksums that LMCache 0.5.6 made of the same memory: chunks of three blocks.
struct ChecksumCase {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string kv_layout;
  std::vector<std::string> together;
  std::vector<std::string> by_layer;
};

std::vector<std::string> checksums(const ChecksumCase& each, bool is_by_layer) {
  KvCacheSample sample;
  sample.tensors = make_tensors(2, each.shape, each.dtype);
  sample.kv_layout = each.kv_layout;
  Worker worker{sample};
  const auto plan = worker.plan({.chunk_tokens = 16});
  EXPECT_TRUE(plan) << plan.error().to_string();
  EXPECT_EQ(layers_of(*plan), 2U);
  std::vector<std::span<std::byte>> memories;
  for (const PlanMemory& memory : plan->memories) memories.emplace_back(worker.memory(memory.name));
  ChecksumRequest request{.blocks = {9, 4, 7, 30, 1, 2, 3, 40},
                          .blocks_per_chunk = 3,
                          .is_by_layer = is_by_layer,
                          .checksums = {}};
  const Status status = checksum_blocks(*plan, memories, request);
  EXPECT_TRUE(status) << status.error().to_string();
  std::vector<std::string> out;
  for (const Md5& md5 : request.checksums) out.push_back(wire::hex(md5));
  return out;
}

TEST(BlockChecksumsTest, AreThoseOfLmcache) {
  const ChecksumCase cases[] = {
      {.dtype = "float16",
       .shape = {2, 64, 4, 2, 4},
       .kv_layout = "NHD",
       .together = {"cad112c0b2c40de789204fa2bce1cbaf", "ba7120705bbee16d2d2da4b686012cc7",
                    "e8b2d1581da422d1e6e83e7f50755c30"},
       .by_layer = {"d57b8016b4ea3ff65d69879bda80bf4e", "26d17c4723b97305eb51d62032c34cc2",
                    "5a9640874500376b143bd6e144ab51ca", "1ca5d651d8f2813185a6f5ac2573864e",
                    "363567e2942f0941acfc47e1c6440c3b", "fae5958849a40bb20948709872e6e5d8"}},
      {.dtype = "float16",
       .shape = {64, 2, 2, 4, 4},
       .kv_layout = "HND",
       .together = {"94ef5709178f165fc21f6d35401d465d", "ab831d64487e98c7fa167a81ae234451",
                    "b71e799676461ad37a3bd0c9105fbff0"},
       .by_layer = {"41c8d6c2c452cf97f1d0b1cd8dbd0735", "8c1812c06020e4f36a6aa0ef93c630a7",
                    "959795c3d23d66497671258a00583b29", "8f16fdf6b2993c49070ca39580ab52af",
                    "7e0a48690b50e97c8f5780e8476d2fbc", "2751ca87af296caef884bfeff809f676"}},
      {.dtype = "bfloat16",
       .shape = {64, 4, 12},
       .kv_layout = "",
       .together = {"0d6a6defb3215fbc74fb8d0580d85612", "4bb61a4dfe4941430c28bcc9c98990bd",
                    "5efc1f38f3c0131427a6360ed76433c1"},
       .by_layer = {"0a84550f9b8929d3285cd5125bf38378", "a418cdf16c1560341d3d2ad244a53d86",
                    "bec7f093f7a31ae63a83cde6509e77b9", "8a33311b15cd445c8403df234899fc16",
                    "22845af3155f767b52b4d7cb986d23e6", "fccaffdf0b28de469c33c8f4c113702e"}},
  };
  for (const ChecksumCase& each : cases) {
    EXPECT_EQ(checksums(each, false), each.together) << each.dtype;
    EXPECT_EQ(checksums(each, true), each.by_layer) << each.dtype;
  }
}

TEST(BlockChecksumsTest, AreTheSameForMoreThanIsHashedAtOnce) {
  ASSERT_TRUE(FaultGuard::install());
  KvCacheSample sample;
  sample.tensors = make_tensors(1, {2, 64, 4, 8, 64});
  const Worker worker{sample};
  const auto plan = worker.plan({.chunk_tokens = 16});
  ASSERT_TRUE(plan);
  constexpr std::size_t kBlockBytes = 4 * 8 * 64 * 2;
  std::vector<std::byte> bytes(2 * 64 * kBlockBytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i * 2'654'435'761U) >> 13 & 0xFF);
  }
  const std::span<std::byte> memory{bytes};
  ChecksumRequest request{
      .blocks = {}, .blocks_per_chunk = 1000, .is_by_layer = false, .checksums = {}};
  for (std::uint32_t i = 0; i < 700; ++i) request.blocks.push_back(i * 7 % 64);
  ASSERT_GT(request.blocks.size() * kBlockBytes, std::size_t{2} << 20);  // Of each plane.
  ASSERT_TRUE(checksum_blocks(*plan, {&memory, 1}, request));
  std::vector<std::byte> expected;
  for (std::size_t plane = 0; plane < 2; ++plane) {
    for (const std::uint32_t block : request.blocks) {
      const auto at = memory.subspan((plane * 64 + block) * kBlockBytes, kBlockBytes);
      expected.insert(expected.end(), at.begin(), at.end());
    }
  }
  Md5 sum{};
  ASSERT_EQ(
      ::EVP_Digest(expected.data(), expected.size(), reinterpret_cast<unsigned char*>(sum.data()),
                   nullptr, ::EVP_md5(), nullptr),
      1);
  ASSERT_EQ(request.checksums.size(), 1U);
  EXPECT_EQ(request.checksums[0], sum);
}

TEST(BlockChecksumsTest, RefuseBlocksThatAreNotThere) {
  ASSERT_TRUE(FaultGuard::install());
  KvCacheSample sample;
  sample.tensors = make_tensors(1, {2, 64, 4, 8, 64});
  const Worker worker{sample};
  const auto plan = worker.plan({.chunk_tokens = 16});
  ASSERT_TRUE(plan);
  const TestSegment segment{"/dev/shm", sample.tensors[0].bytes};
  const std::span<std::byte> memory = segment.memory();
  const auto error = [&](std::vector<std::uint32_t> blocks, std::uint32_t blocks_per_chunk) {
    ChecksumRequest request{.blocks = std::move(blocks),
                            .blocks_per_chunk = blocks_per_chunk,
                            .is_by_layer = false,
                            .checksums = {}};
    const Status status = checksum_blocks(*plan, {&memory, 1}, request);
    return status ? ErrorCode::kNone : status.error().code();
  };
  EXPECT_EQ(error({1, 63}, 1), ErrorCode::kNone);
  EXPECT_EQ(error({1, 64}, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({}, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error({1}, 0), ErrorCode::kInvalidArgument);
  segment.truncate(4096);
  EXPECT_EQ(error({1, 63}, 1), ErrorCode::kIo);
}

}  // namespace
}  // namespace larder::server
