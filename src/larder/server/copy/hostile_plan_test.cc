// Every changed byte of valid registrations: if a plan results, no block of it ends beyond the
// worker's declared memory, and cells have room for their parts.
#include <gtest/gtest.h>

#include "larder/server/copy/copy_test_support.h"

namespace larder::server {
namespace {

void check_plan(const CopyPlan& plan) {
  std::uint32_t lists = 0;
  for (const ObjectGroupPlan& group : plan.groups) {
    std::uint64_t end = 0;
    for (const KernelGroupPlan& kernel : group.kernels) {
      const CopyShape& shape = kernel.shape;
      ++lists;
      ASSERT_EQ(kernel.cell_offset, end);
      end += kernel.cell_bytes;
      ASSERT_LE(copied_bytes(shape), kernel.cell_bytes);
      ASSERT_GT(copied_bytes(shape), 0U);
      ASSERT_LE(shape.blocks_kept, kernel.blocks_per_chunk);
      ASSERT_EQ(kernel.bases.size(), std::size_t{shape.planes} * shape.layers);
      const std::uint64_t extent = (shape.blocks - 1) * shape.block_stride +
                                   (shape.slots_per_block - std::uint64_t{1}) * shape.slot_stride +
                                   (shape.heads - std::uint64_t{1}) * shape.head_stride +
                                   shape.head_bytes;
      for (const PlaneBase& base : kernel.bases) {
        ASSERT_LT(base.memory, plan.memories.size());
        ASSERT_LE(base.offset + extent, plan.memories[base.memory].bytes);
      }
    }
    ASSERT_EQ(group.cell_bytes, end);
  }
  ASSERT_EQ(lists, plan.lists);
}

std::vector<KvCacheSample> samples() {
  KvCacheSample vllm;
  vllm.tensors = make_tensors(3, {2, 64, 4, 3, 4});
  vllm.tensors[1].offset = 3;
  vllm.tensors[1].bytes += 200;
  vllm.groups = {{.layers = {0, 1}, .tokens_per_block = 4},
                 {.id = 1, .layers = {2}, .tokens_per_block = 8, .window = 8}};
  KvCacheSample fused;
  fused.tensors = make_tensors(2, {64, 4, 2, 8}, "uint8", 1);
  fused.tensors[0].stride[0] += 8;
  fused.tensors[1].stride[0] += 8;
  for (TensorSample& tensor : fused.tensors) tensor.bytes += 1000;
  KvCacheSample lists;
  lists.engine = "sglang";
  lists.kv_layout.clear();
  lists.kv_list = "k_v";
  lists.hints = {{"tokens_per_block", 4}};
  lists.tensors = make_tensors(4, {256, 2, 4}, "float32", 4);
  KvCacheSample crossed;
  crossed.engine = "trtllm";
  crossed.kv_layout.clear();
  crossed.hints = {{"num_kv_heads", 2}, {"tokens_per_block", 4}, {"head_dim", 4}};
  crossed.tensors = make_tensors(1, {64, 3, 2, 32});
  return {vllm, fused, lists, crossed};
}

TEST(HostilePlanTest, NoPlanLeavesItsMemory) {
  std::size_t plans = 0;
  std::size_t refused = 0;
  for (const KvCacheSample& sample : samples()) {
    const std::vector<wire::Bytes> good = wire::make_kv_cache(sample);
    for (const std::size_t frame : {1U, 4U, 5U, 6U}) {
      for (std::size_t at = 0; at < good[frame].size(); ++at) {
        for (unsigned change = 1; change < 256; change += 2 + change / 16) {
          std::vector<wire::Bytes> frames = good;
          frames[frame][at] ^= static_cast<std::byte>(change);
          const std::vector<std::span<const std::byte>> views(frames.begin(), frames.end());
          const auto registration = wire::decode_kv_cache_registration(views);
          if (!registration) continue;
          for (const std::uint32_t chunk_tokens : {16U, 24U}) {
            const auto plan = make_copy_plan(*registration, {.chunk_tokens = chunk_tokens});
            plan ? ++plans : ++refused;
            if (plan) check_plan(*plan);
            if (::testing::Test::HasFatalFailure()) FAIL() << frame << ' ' << at << ' ' << change;
          }
        }
      }
    }
  }
  EXPECT_GT(plans, 1000U);
  EXPECT_GT(refused, 1000U);
}

}  // namespace
}  // namespace larder::server
