// The work of each thread of a GPU's kernel, done on the CPU, against the CPU's loop.
#include "larder/server/copy/copy_index.h"

#include <gtest/gtest.h>

#include <bit>

#include "larder/base/random.h"
#include "larder/server/copy/copy_loop.h"

namespace larder::server {
namespace {

struct Vector16 {
  std::uint64_t words[2];
};

/// A shape, with its memory as one buffer.
struct Sample {
  ObjectGroupPlan group;
  std::vector<std::byte> memory;
  wire::BlockIds blocks;
};

Sample make_sample(Random& random, std::uint32_t vector_bytes) {
  KernelGroupPlan kernel;
  CopyShape& shape = kernel.shape;
  shape.blocks = 8 + random.below(8);
  shape.planes = static_cast<std::uint32_t>(1 + random.below(2));
  shape.layers = static_cast<std::uint32_t>(1 + random.below(3));
  shape.slots_per_block = static_cast<std::uint32_t>(1 + random.below(5));
  shape.heads = static_cast<std::uint32_t>(1 + random.below(4));
  shape.head_bytes = static_cast<std::uint32_t>(1 + random.below(9)) * vector_bytes;
  kernel.blocks_per_chunk = static_cast<std::uint32_t>(1 + random.below(6));
  shape.blocks_kept = static_cast<std::uint32_t>(1 + random.below(kernel.blocks_per_chunk));
  kernel.tokens_per_block = shape.slots_per_block;
  const bool is_hnd = random.one_in(2);
  shape.head_stride = is_hnd ? std::uint64_t{shape.slots_per_block} * shape.head_bytes
                             : std::uint64_t{shape.head_bytes};
  shape.slot_stride = is_hnd ? std::uint64_t{shape.head_bytes} : slot_bytes(shape);
  shape.block_stride = block_bytes(shape) + random.below(3) * vector_bytes;
  kernel.cell_bytes = copied_bytes(shape);
  const std::uint64_t plane = shape.block_stride * shape.blocks;
  for (std::uint32_t i = 0; i < shape.planes * shape.layers; ++i) {
    kernel.bases.push_back({.memory = 0, .offset = i * plane});
  }
  Sample sample;
  sample.memory.resize(plane * kernel.bases.size());
  random.fill(sample.memory);
  for (std::uint32_t i = 0; i < 2 * kernel.blocks_per_chunk; ++i) {
    sample.blocks.ids.push_back(static_cast<std::uint32_t>(random.below(shape.blocks)));
  }
  sample.blocks.ends.push_back(static_cast<std::uint32_t>(sample.blocks.ids.size()));
  sample.group.cell_bytes = kernel.cell_bytes;
  sample.group.kernels.push_back(std::move(kernel));
  return sample;
}

template <class Vector>
void run_kernel(Sample& sample, std::vector<std::byte>& cell, std::uint32_t chunk,
                std::uint32_t skipped, bool is_store) {
  const KernelGroupPlan& kernel = sample.group.kernels[0];
  std::vector<std::byte*> bases;
  for (const PlaneBase& base : kernel.bases) bases.push_back(sample.memory.data() + base.offset);
  const auto ids =
      sample.blocks.group(0)
          .subspan(std::size_t{chunk} * kernel.blocks_per_chunk, kernel.blocks_per_chunk)
          .last(kernel.shape.blocks_kept);
  const KernelCell one{.cell = cell.data(), .blocks = ids.data(), .blocks_skipped = skipped};
  const KernelArguments arguments{
      .shape = kernel.shape, .bases = bases.data(), .cells = &one, .is_store = is_store};
  // As many threads as whole blocks have: some have no work.
  const std::uint64_t threads = copied_bytes(kernel.shape) / sizeof(Vector) + 7;
  for (std::uint64_t i = 0; i < threads; ++i) copy_vector<Vector>(arguments, 0, i);
}

template <class Vector>
void compare(std::uint64_t seed) {
  Random random{seed};
  for (int round = 0; round < 200; ++round) {
    Sample sample = make_sample(random, sizeof(Vector));
    const KernelGroupPlan& kernel = sample.group.kernels[0];
    const auto chunk = static_cast<std::uint32_t>(random.below(2));
    std::byte* const memory = sample.memory.data();
    CellCopy copy{
        .group = &sample.group, .memories = {&memory, 1}, .blocks = &sample.blocks, .chunk = chunk};
    std::vector<std::byte> by_loop(sample.group.cell_bytes);
    copy.cell = by_loop.data();
    copy_cell(copy, CopyDirection::kStore);
    std::vector<std::byte> by_kernel(sample.group.cell_bytes);
    run_kernel<Vector>(sample, by_kernel, chunk, 0, true);
    ASSERT_EQ(by_kernel, by_loop) << seed << ' ' << round;

    random.fill(by_loop);
    const std::vector<std::byte> before = sample.memory;
    const auto skipped =
        static_cast<std::uint32_t>(random.below(kernel.shape.blocks_kept + std::uint64_t{1}));
    copy.skip_tokens = (std::uint64_t{chunk} * kernel.blocks_per_chunk + kernel.blocks_per_chunk -
                        kernel.shape.blocks_kept + skipped) *
                       kernel.tokens_per_block;
    copy_cell(copy, CopyDirection::kRetrieve);
    const std::vector<std::byte> loop_memory = std::exchange(sample.memory, before);
    run_kernel<Vector>(sample, by_loop, chunk, skipped, false);
    ASSERT_EQ(sample.memory, loop_memory) << seed << ' ' << round;
  }
}

TEST(CopyIndexTest, TheKernelCopiesWhatTheLoopCopies) {
  compare<std::uint8_t>(1);
  compare<std::uint16_t>(2);
  compare<std::uint32_t>(3);
  compare<std::uint64_t>(4);
  compare<Vector16>(5);
}

TEST(CopyIndexTest, EachByteOfACellHasAPlaceOfItsOwn) {
  const CopyShape shape{.blocks = 9,
                        .block_stride = 96,
                        .slot_stride = 8,
                        .head_stride = 24,
                        .planes = 2,
                        .layers = 3,
                        .blocks_kept = 2,
                        .slots_per_block = 3,
                        .heads = 4,
                        .head_bytes = 8};
  std::vector<bool> seen(copied_bytes(shape));
  for (std::uint64_t byte = 0; byte < copied_bytes(shape); ++byte) {
    const WorkerPlace place = place_of(shape, byte);
    ASSERT_LT(place.base, 6U);
    ASSERT_LT(place.block, 2U);
    ASSERT_LT(place.offset, 96U);
    const std::uint64_t number = (std::uint64_t{place.base} * 2 + place.block) * 96 + place.offset;
    ASSERT_FALSE(seen.at(number)) << byte;
    seen[number] = true;
  }
}

}  // namespace
}  // namespace larder::server
