// Random registrations, blocks and orders of work: data stored and then retrieved into another
// worker of the same layout is unchanged, and nothing else changes.
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "larder/base/random.h"
#include "larder/server/copy/backend_test_support.h"
#include "tests/support/temporary_directory.h"

namespace larder::server {
namespace {

struct RandomModel {
  KvCacheSample sample;
  std::uint64_t blocks = 0;
  std::vector<std::uint32_t> block_tokens;  ///< By list.
  std::vector<std::uint32_t> kept_tokens;   ///< By list.
};

/// The sizes of one tensor in a random format, for the hint of the model.
std::vector<std::uint64_t> random_shape(Random& random, bool is_hnd, std::uint64_t blocks,
                                        std::uint64_t tokens) {
  const std::uint64_t heads = 3 + random.below(3);  // Not 2: that would be a plane.
  const std::uint64_t size = 1 + random.below(40);
  const std::uint64_t first = is_hnd ? heads : tokens;
  const std::uint64_t second = is_hnd ? tokens : heads;
  switch (random.below(4)) {
    case 0:
      return {2, blocks, first, second, size};
    case 1:
      return {blocks, 2, first, second, size};
    case 2:
      return {blocks, first, second, size};
    default:
      return {blocks, tokens, size};
  }
}

RandomModel random_model(Random& random) {
  RandomModel model;
  const bool is_hnd = random.one_in(2);
  model.sample.kv_layout = is_hnd ? "HND" : "NHD";
  model.sample.tensors.clear();
  model.blocks = 16 + random.below(16);
  constexpr std::array<std::uint32_t, 3> kTokens{4, 8, 16};
  const std::uint64_t groups = 1 + random.below(3);
  std::uint64_t layers = 0;
  for (std::uint64_t group = 0; group < groups; ++group) {
    const std::uint32_t tokens = kTokens[random.below(kTokens.size())];
    const auto shape = random_shape(random, is_hnd, model.blocks, tokens);
    GroupSample info{.id = group, .layers = {}, .tokens_per_block = tokens};
    if (random.one_in(3)) {
      info.window = static_cast<std::int64_t>(tokens * (1 + random.below(6)));
      info.is_recurrent = random.one_in(3);
    }
    for (std::uint64_t i = 1 + random.below(3); i > 0; --i) {
      model.sample.tensors.push_back(make_tensors(1, shape, "float16", 2, layers)[0]);
      info.layers.push_back(layers++);
    }
    model.block_tokens.push_back(tokens);
    model.kept_tokens.push_back(
        info.window < 0 ? kTestChunkTokens
                        : std::min(static_cast<std::uint32_t>(info.window), kTestChunkTokens));
    model.sample.groups.push_back(info);
  }
  return model;
}

/// Distinct blocks for each list, as engines give them.
wire::BlockIds random_blocks(Random& random, const RandomModel& model, std::uint32_t chunks) {
  std::vector<std::vector<std::uint32_t>> lists;
  for (const std::uint32_t tokens : model.block_tokens) {
    std::vector<std::uint32_t> ids(model.blocks);
    std::iota(ids.begin(), ids.end(), 0U);
    const std::size_t count = chunks * kTestChunkTokens / tokens;
    for (std::size_t i = 0; i < count; ++i) {
      // Sometimes the next one, so that runs come about.
      if (!random.one_in(3)) std::swap(ids[i], ids[i + random.below(ids.size() - i)]);
    }
    ids.resize(count);
    lists.push_back(std::move(ids));
  }
  return make_blocks(lists);
}

/// Bytes of the tensors' blocks that a transfer of these blocks moves, as a map over memory.
void mark_moved(const RandomModel& model, const wire::BlockIds& blocks, std::uint32_t chunks,
                std::size_t tensor, std::size_t list, std::vector<bool>& moved) {
  const TensorSample& sample = model.sample.tensors[tensor];
  const bool is_kv_first = sample.shape[0] == 2 && sample.shape.size() == 5;
  const std::uint64_t block_bytes = sample.stride[is_kv_first ? 1 : 0] * 2;
  const std::uint32_t per_chunk = kTestChunkTokens / model.block_tokens[list];
  const std::uint32_t kept = model.kept_tokens[list] / model.block_tokens[list];
  const auto ids = blocks.group(list);
  for (std::size_t i = 0; i < std::size_t{chunks} * per_chunk; ++i) {
    if (i % per_chunk < per_chunk - kept) continue;
    for (std::uint64_t plane = 0; plane < (is_kv_first ? 2U : 1U); ++plane) {
      const std::uint64_t begin = plane * sample.stride[0] * 2 + ids[i] * block_bytes;
      std::fill_n(moved.begin() + static_cast<std::ptrdiff_t>(begin), block_bytes, true);
    }
  }
}

class CopyRandomTest : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(CopyRandomTest, WhatIsStoredComesBack) {
  Random random{GetParam()};
  const larder::testing::TemporaryDirectory directory;
  auto backend = CpuCopyBackend::create({.threads = 3, .shared_memory = directory.path()});
  ASSERT_TRUE(backend) << backend.error().text;
  std::vector<std::byte> arena(std::size_t{8} << 20);
  ASSERT_TRUE((*backend)->prepare_arena(arena));
  for (int round = 0; round < 20; ++round) {
    const RandomModel model = random_model(random);
    const bool has_separate_groups = random.one_in(2);
    MappedWorker from{**backend, directory.path(), model.sample, has_separate_groups};
    MappedWorker to{**backend, directory.path(), model.sample, has_separate_groups};
    for (const TestSegment& segment : from.segments()) random.fill(segment.memory());
    for (const TestSegment& segment : to.segments()) random.fill(segment.memory());
    random.fill(arena);

    const auto chunks = static_cast<std::uint32_t>(1 + random.below(2));
    std::vector<JobCell> cells;
    std::uint64_t offset = 64 * random.below(4);
    for (std::uint32_t group = 0; group < from.plan().groups.size(); ++group) {
      for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) {
        cells.push_back({.offset = offset, .chunk = chunk, .group = group});
        offset += from.plan().groups[group].cell_bytes + 64 * random.below(3);
      }
    }
    ASSERT_LE(offset, arena.size());
    const wire::BlockIds source = random_blocks(random, model, chunks);
    const wire::BlockIds target = random_blocks(random, model, chunks);
    CopyJob store{.op = CopyOp::kStore, .view = from.view(), .cells = cells, .blocks = &source};
    ASSERT_EQ(run(**backend, store), CopyOutcome::kDone);
    std::vector<std::vector<std::byte>> before;
    for (const TestSegment& segment : to.segments()) {
      before.emplace_back(segment.memory().begin(), segment.memory().end());
    }
    CopyJob retrieve{.op = CopyOp::kRetrieve, .view = to.view(), .cells = cells, .blocks = &target};
    ASSERT_EQ(run(**backend, retrieve), CopyOutcome::kDone);

    // Stored again from there, the cells are the same; and other bytes are as they were.
    const std::vector<std::byte> first = arena;
    CopyJob back{.op = CopyOp::kStore, .view = to.view(), .cells = cells, .blocks = &target};
    ASSERT_EQ(run(**backend, back), CopyOutcome::kDone);
    ASSERT_EQ(arena, first) << GetParam() << ' ' << round;
    for (std::size_t list = 0; list < model.sample.groups.size(); ++list) {
      for (const std::uint64_t tensor : model.sample.groups[list].layers) {
        const auto memory = to.segments()[tensor].memory();
        std::vector<bool> moved(memory.size());
        mark_moved(model, target, chunks, tensor, list, moved);
        for (std::size_t i = 0; i < memory.size(); ++i) {
          ASSERT_TRUE(moved[i] || memory[i] == before[tensor][i]) << GetParam() << ' ' << round;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CopyRandomTest, ::testing::Range<std::uint64_t>(1, 9));

}  // namespace
}  // namespace larder::server
