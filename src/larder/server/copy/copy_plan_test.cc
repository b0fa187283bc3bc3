#include "larder/server/copy/copy_plan.h"

#include <gtest/gtest.h>

#include "larder/server/copy/copy_test_support.h"

namespace larder::server {
namespace {

constexpr PlanOptions kOptions{.chunk_tokens = 16, .has_separate_groups = true};

CopyPlan plan_of(const KvCacheSample& sample, const PlanOptions& options = kOptions) {
  auto plan = Worker{sample}.plan(options);
  EXPECT_TRUE(plan) << plan.error().to_string();
  return plan ? std::move(*plan) : CopyPlan{};
}

std::string error_of(const KvCacheSample& sample, const PlanOptions& options = kOptions) {
  return Worker{sample}.plan_error(options);
}

const std::vector<std::uint64_t> kNhd{2, 64, 4, 2, 4};

KvCacheSample nhd(std::size_t layers, std::vector<GroupSample> groups = {}) {
  KvCacheSample sample;
  sample.tensors = make_tensors(layers, kNhd);
  sample.groups = std::move(groups);
  return sample;
}

TEST(CopyPlanTest, SaysWhereEverythingIs) {
  const CopyPlan plan = plan_of(nhd(2));
  EXPECT_EQ(plan.chunk_tokens, 16U);
  EXPECT_EQ(plan.lists, 1U);
  ASSERT_EQ(plan.groups.size(), 1U);
  EXPECT_EQ(plan.groups[0].cell_bytes, 1024U);
  EXPECT_EQ(plan.groups[0].window_chunks, 0U);
  EXPECT_FALSE(plan.groups[0].is_recurrent);
  const KernelGroupPlan& kernel = plan.groups[0].kernels.at(0);
  EXPECT_EQ(kernel.shape, (CopyShape{.blocks = 64,
                                     .block_stride = 64,
                                     .slot_stride = 16,
                                     .head_stride = 8,
                                     .planes = 2,
                                     .layers = 2,
                                     .blocks_kept = 4,
                                     .slots_per_block = 4,
                                     .heads = 2,
                                     .head_bytes = 8}));
  EXPECT_EQ(kernel.bases, (std::vector<PlaneBase>{{0, 0}, {1, 0}, {0, 4096}, {1, 4096}}));
  EXPECT_EQ(kernel.tokens_per_block, 4U);
  EXPECT_EQ(kernel.blocks_per_chunk, 4U);
  EXPECT_EQ(kernel.dtype, "float16");
  EXPECT_EQ(kernel.format, "[2, blocks, tokens, heads, size]");
  EXPECT_EQ(plan.memories,
            (std::vector<PlanMemory>{{"/lmcache_kv_1_0", 8192}, {"/lmcache_kv_1_1", 8192}}));
}

TEST(CopyPlanTest, NamesEachMemoryOnceWithTheMostThatIsUsed) {
  KvCacheSample sample = nhd(3);
  for (std::size_t i = 0; i < 3; ++i) {
    sample.tensors[i].name = i == 2 ? "/lmcache_kv_1_9" : "/lmcache_kv_1_8";
    sample.tensors[i].bytes = 20'000;
  }
  sample.tensors[1].offset = 4096;
  const CopyPlan plan = plan_of(sample);
  EXPECT_EQ(plan.memories,
            (std::vector<PlanMemory>{{"/lmcache_kv_1_8", 16384}, {"/lmcache_kv_1_9", 8192}}));
  EXPECT_EQ(plan.groups[0].kernels[0].bases[1], (PlaneBase{0, 8192}));
}

/// Full attention, a window of two chunks, and a state of the last chunk.
std::vector<GroupSample> mixed_groups() {
  return {{.id = 0, .layers = {0}},
          {.id = 1, .layers = {1}, .window = 17},
          {.id = 2, .layers = {2}, .window = 16, .is_recurrent = true},
          {.id = 3, .layers = {3}},
          {.id = 4, .layers = {4}, .window = 32},
          {.id = 5, .layers = {5}, .window = 16}};
}

TEST(CopyPlanTest, SeparatesObjectGroupsByWindowAndRecurrence) {
  const CopyPlan plan = plan_of(nhd(6, mixed_groups()));
  ASSERT_EQ(plan.groups.size(), 4U);
  EXPECT_EQ(plan.lists, 6U);
  const auto lists = [&](std::size_t group) {
    std::vector<std::uint32_t> out;
    for (const KernelGroupPlan& kernel : plan.groups[group].kernels) out.push_back(kernel.list);
    return out;
  };
  EXPECT_EQ(lists(0), (std::vector<std::uint32_t>{0, 3}));
  EXPECT_EQ(lists(1), (std::vector<std::uint32_t>{1, 4}));
  EXPECT_EQ(lists(2), (std::vector<std::uint32_t>{2}));
  EXPECT_EQ(lists(3), (std::vector<std::uint32_t>{5}));
  EXPECT_EQ(plan.groups[0].window_chunks, 0U);
  EXPECT_EQ(plan.groups[1].window_chunks, 2U);
  EXPECT_EQ(plan.groups[2].window_chunks, 1U);
  EXPECT_TRUE(plan.groups[2].is_recurrent);
  EXPECT_FALSE(plan.groups[3].is_recurrent);
  EXPECT_EQ(plan.groups[0].cell_bytes, 1024U);
  EXPECT_EQ(plan.groups[0].kernels[1].cell_offset, 512U);
}

TEST(CopyPlanTest, KeepsOneObjectGroupWhereThatIsWanted) {
  const CopyPlan plan =
      plan_of(nhd(6, mixed_groups()), {.chunk_tokens = 16, .has_separate_groups = false});
  ASSERT_EQ(plan.groups.size(), 1U);
  EXPECT_EQ(plan.groups[0].window_chunks, 0U);
  EXPECT_FALSE(plan.groups[0].is_recurrent);
  EXPECT_EQ(plan.groups[0].kernels.size(), 6U);
  EXPECT_EQ(plan_of(nhd(6)).groups.size(), 1U);
}

TEST(CopyPlanTest, CutsAWindowWithinAChunkAndKeepsTheCellWhole) {
  const CopyPlan plan = plan_of(nhd(1, {{.layers = {0}, .tokens_per_block = 4, .window = 8}}));
  const KernelGroupPlan& kernel = plan.groups.at(0).kernels.at(0);
  EXPECT_EQ(kernel.shape.blocks_kept, 2U);
  EXPECT_EQ(kernel.blocks_per_chunk, 4U);
  EXPECT_EQ(kernel.cell_bytes, 512U);
  EXPECT_EQ(copied_bytes(kernel.shape), 256U);
  EXPECT_EQ(plan.groups[0].window_chunks, 1U);
}

TEST(CopyPlanTest, LeavesOutLayersOfNoGroup) {
  const CopyPlan plan = plan_of(nhd(3, {{.layers = {0, 2}}}));
  EXPECT_EQ(plan.groups.at(0).kernels.at(0).layers, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(plan.memories.size(), 2U);
}

TEST(CopyPlanTest, TakesTheFewestBlocksOfAGroup) {
  KvCacheSample sample = nhd(2);
  sample.tensors[1] = make_tensors(1, {2, 50, 4, 2, 4}, "float16", 2, 1)[0];
  const CopyPlan plan = plan_of(sample);
  EXPECT_EQ(plan.groups[0].kernels[0].shape.blocks, 50U);
}

TEST(CopyPlanTest, SplitsLayersOfDifferentFormats) {
  KvCacheSample sample = nhd(2, {{.layers = {0}}, {.layers = {1}}});
  sample.tensors[1] = make_tensors(1, {64, 4, 12}, "float16", 2, 1)[0];
  const CopyPlan plan = plan_of(sample);
  ASSERT_EQ(plan.groups.size(), 1U);
  EXPECT_EQ(plan.groups[0].kernels[1].format, "[blocks, tokens, size]");
  EXPECT_EQ(plan.groups[0].kernels[1].cell_offset, 512U);
  sample.groups.clear();
  EXPECT_EQ(error_of(sample),
            "engine_group_infos is empty; it must be given: the tensors make 2 groups, because "
            "their formats differ");
}

TEST(CopyPlanTest, RefusesGroupsThatAreNotThoseOfTheTensors) {
  EXPECT_EQ(error_of(nhd(2, {{.id = 0, .layers = {1}}, {.id = 1, .layers = {0}}})),
            "engine_group_infos[0].layer_indices is [1]; it must be [0]: groups in the order of "
            "their first layers, each of one format");
  EXPECT_EQ(error_of(nhd(2, {{.layers = {0}}, {.layers = {1}}})),
            "engine_group_infos is an array of 2; it must be 1 groups, which is what the tensors "
            "make");
  EXPECT_EQ(error_of(nhd(2, {{.layers = {0, 2}}})),
            "engine_group_infos[0].layer_indices is 2; it must be below the number of layers, 2");
  EXPECT_NE(error_of(nhd(2, {{.layers = {}}})).find("without layers"), std::string::npos);
  EXPECT_EQ(error_of(nhd(1, {{.layers = {0}, .tag = 1}})),
            "engine_group_infos[0].extra_object_group_tag is 1; it must be 0: what CacheBlend adds "
            "is not served here");
}

TEST(CopyPlanTest, RefusesBlocksThatDoNotFitChunks) {
  EXPECT_EQ(error_of(nhd(1), {.chunk_tokens = 18}),
            "the size of a block is 4 tokens; it must be a divisor of this server's --chunk-size, "
            "18");
  EXPECT_EQ(error_of(nhd(1, {{.layers = {0}, .tokens_per_block = 6}})),
            "engine_group_infos[0].tokens_per_block is 6; it must be a multiple of the slots of a "
            "block in the tensors, 4");
  EXPECT_EQ(error_of(nhd(1, {{.layers = {0}, .window = 6}})),
            "engine_group_infos[0].sw_size_tokens is 6; it must be a multiple of the group's "
            "tokens_per_block, 4");
  EXPECT_EQ(error_of(nhd(1, {{.layers = {0}, .window = 21}})), "no error");
}

TEST(CopyPlanTest, RefusesTensorsThatItDoesNotKnow) {
  const auto error = [](const std::vector<std::uint64_t>& shape) {
    KvCacheSample sample;
    sample.tensors = make_tensors(1, shape);
    return error_of(sample);
  };
  EXPECT_EQ(error({64, 3, 4, 2, 4}),
            "kv_cache[0].metadata.shape is [64, 3, 4, 2, 4]; it must be a format of vLLM: 5 sizes "
            "with a 2 among the first two, or [blocks, tokens, heads, 2 * size], [blocks, tokens, "
            "size]");
  EXPECT_NE(error({64, 2, 2, 4, 2, 4}).find("a format of vLLM"), std::string::npos);
  EXPECT_NE(error({64, 4}).find("a format of vLLM"), std::string::npos);
  EXPECT_NE(error({64, 4, 3'000'000}).find("6000000 bytes a head"), std::string::npos);
}

TEST(CopyPlanTest, RefusesGapsWithinABlockAndEmptyTensors) {
  KvCacheSample sample = nhd(1);
  sample.tensors[0].bytes = 1 << 20;
  sample.tensors[0].stride = {4096, 64, 16, 4, 1};
  EXPECT_EQ(error_of(sample),
            "kv_cache[0].metadata.stride is 32 bytes for a dimension of 4; it must be 16 bytes: "
            "only the outermost dimension may have gaps");
  sample = nhd(1);
  sample.tensors[0].stride[0] = 1024;  // Keys and values overlap.
  EXPECT_NE(error_of(sample).find("only the outermost"), std::string::npos);
  sample = nhd(1);
  sample.tensors[0].stride[4] = 0;
  EXPECT_NE(error_of(sample).find("only the outermost"), std::string::npos);
  sample = nhd(1);
  sample.tensors[0].shape[1] = 0;
  EXPECT_NE(error_of(sample).find("of one element at least"), std::string::npos);
}

TEST(CopyPlanTest, RefusesLayersOfOneGroupThatLieDifferently) {
  KvCacheSample sample;
  sample.kv_layout = "BLNHC";
  sample.tensors = make_tensors(2, {64, 4, 2, 8});
  sample.tensors[1].stride[0] += 8;
  sample.tensors[1].bytes += 1024;
  EXPECT_EQ(error_of(sample),
            "kv_cache[1].metadata.stride is 144 bytes a block in layer 1; it must be 128 bytes, as "
            "in layer 0 of the same group");
}

TEST(CopyPlanTest, NamesWhatSglangAndTensorRtNeed) {
  KvCacheSample sample;
  sample.engine = "sglang";
  sample.kv_layout.clear();
  sample.kv_list = "k_v";
  sample.hints = {{"tokens_per_block", 4}};
  sample.tensors = make_tensors(3, {256, 2, 4});
  EXPECT_EQ(error_of(sample),
            "kv_cache is an array of 3; it must be an even number of tensors with kv_list_layout "
            "\"k_v\"");
  sample.tensors = make_tensors(2, {254, 2, 4});
  EXPECT_EQ(error_of(sample),
            "kv_cache[0].metadata.shape is 254 tokens; it must be a multiple of the hint "
            "tokens_per_block, 4");
  sample.tensors = make_tensors(2, {256, 2, 4});
  sample.tensors[1] = make_tensors(1, {256, 1, 4})[0];
  EXPECT_NE(error_of(sample).find("kv_cache[1] is of another shape than kv_cache[0]"),
            std::string::npos);
  sample.hints.clear();
  EXPECT_NE(error_of(sample).find("with the hint tokens_per_block"), std::string::npos);

  sample = {};
  sample.engine = "trtllm";
  sample.kv_layout.clear();
  sample.tensors = make_tensors(1, {64, 3, 2, 32});
  EXPECT_NE(error_of(sample).find("with the hints num_kv_heads"), std::string::npos);
  sample.hints = {{"num_kv_heads", 2}, {"tokens_per_block", 4}, {"head_dim", 4}};
  const CopyPlan plan = plan_of(sample);
  EXPECT_EQ(plan.groups[0].kernels[0].layers.size(), 3U);
  EXPECT_EQ(plan.groups[0].kernels[0].shape.head_stride, 32U);
  sample.hints[2].second = 5;
  EXPECT_NE(error_of(sample).find("of 40 elements at its end"), std::string::npos);
}

TEST(CopyPlanTest, RefusesMemoryOfGpus) {
  std::vector<wire::Bytes> frames = wire::make_kv_cache(nhd(1));
  wire::Bytes body;
  wire::MsgpackWriter writer{body};
  writer.map(6);
  writer.text("type"), writer.text("cuda_raw");
  writer.text("ipc_handle"), writer.binary(wire::Bytes(64));
  writer.text("alloc_offset"), writer.integer(0);
  writer.text("nbytes"), writer.integer(8192);
  writer.text("version"), writer.integer(1);
  wire::write_view(writer, make_tensors(1, kNhd)[0]);
  frames[1].assign(1, std::byte{0x91});
  wire::append_extension(frames[1], body);
  const std::vector<std::span<const std::byte>> views(frames.begin(), frames.end());
  const auto registration = wire::decode_kv_cache_registration(views);
  ASSERT_TRUE(registration) << registration.error().to_string();
  const auto plan = make_copy_plan(*registration, kOptions);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().to_string(),
            "kv_cache[0].type is memory of a GPU; it must be \"cpu_shm\": this server copies in "
            "the memory of the CPU; let the worker copy (engine-driven transfers)");
}

TEST(BlocksTest, MustFitTheRegistrationAndTheRange) {
  const CopyPlan plan = plan_of(nhd(2, {{.id = 0, .layers = {0}}, {.id = 1, .layers = {1}}}));
  const auto error = [&](const std::vector<std::vector<std::uint32_t>>& lists,
                         std::uint32_t chunks) {
    const auto checked = check_blocks(plan, make_blocks(lists), chunks);
    return checked ? "no error" : checked.error().to_string();
  };
  const std::vector<std::uint32_t> one{1, 2, 3, 63};
  const std::vector<std::uint32_t> two{1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(error({one, one}, 1), "no error");
  EXPECT_EQ(error({two, one}, 1), "no error");  // More than are needed.
  EXPECT_EQ(error({one}, 1),
            "gpu_block_ids is 1 lists; it must be 2, one a group of the registration");
  EXPECT_EQ(error({one, {}}, 1),
            "gpu_block_ids[1] is of 0 blocks; it must be of 4, 4 for each chunk of the range");
  EXPECT_NE(error({two, one}, 2).find("gpu_block_ids[1] is of 4 blocks"), std::string::npos);
  EXPECT_NE(error({{1, 2, 3, 4, 5}, one}, 1).find("gpu_block_ids[0] is of 5 blocks"),
            std::string::npos);
  EXPECT_EQ(error({one, {1, 2, 3, 64}}, 1),
            "gpu_block_ids[1] is 64; it must be below the number of blocks that were registered, "
            "64");
}

TEST(BlocksTest, AChunkOfNullBlocksIsNull) {
  const CopyPlan plan = plan_of(nhd(2, {{.id = 0, .layers = {0}}, {.id = 1, .layers = {1}}}));
  const auto blocks = make_blocks({{0, 0, 0, 0, 0, 0, 1, 0}, {0, 0, 0, 0, 0, 0, 0, 0}});
  EXPECT_TRUE(is_null_chunk(plan.groups[0], blocks, 0, 0));
  EXPECT_FALSE(is_null_chunk(plan.groups[0], blocks, 1, 0));
  EXPECT_FALSE(is_null_chunk(plan.groups[0], blocks, 0, 7));
}

/// The engine frees the blocks before a window: a partial chunk must not be stored.
TEST(BlocksTest, InAWindowOneNullBlockIsEnough) {
  const CopyPlan plan = plan_of(nhd(1, {{.layers = {0}, .tokens_per_block = 4, .window = 64}}));
  ASSERT_NE(plan.groups[0].window_chunks, 0U);
  const auto blocks = make_blocks({{0, 5, 6, 7, 1, 2, 3, 4}});
  EXPECT_TRUE(is_null_chunk(plan.groups[0], blocks, 0, 0));
  EXPECT_FALSE(is_null_chunk(plan.groups[0], blocks, 1, 0));
  // Within a chunk only the window is copied.
  const CopyPlan part = plan_of(nhd(1, {{.layers = {0}, .tokens_per_block = 4, .window = 8}}));
  EXPECT_FALSE(is_null_chunk(part.groups[0], blocks, 0, 0));
}

}  // namespace
}  // namespace larder::server
