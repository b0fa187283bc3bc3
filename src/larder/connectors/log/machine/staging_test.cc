#include "larder/connectors/log/machine/staging.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"

namespace larder::log_store {
namespace {

constexpr std::size_t kGrain = 4096;

Staging make(std::size_t bytes, std::size_t alignment = kGrain) {
  auto staging = Staging::create(bytes, alignment);
  if (!staging) ADD_FAILURE() << staging.error().to_string();
  return std::move(staging).value();
}

TEST(StagingTest, AlignmentThatIsNoPowerOfTwoIsRefused) {
  EXPECT_EQ(Staging::create(1 << 20, 0).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(Staging::create(1 << 20, 3000).error().code(), ErrorCode::kInvalidArgument);
}

TEST(StagingTest, MoreMemoryThanThereIsIsAnError) {
  const auto staging = Staging::create(std::size_t{1} << 62, kGrain);

  ASSERT_FALSE(staging.has_value());
  EXPECT_EQ(staging.error().code(), ErrorCode::kResourceExhausted);
}

TEST(StagingTest, ChunksAreAlignedAndPaddedToTheAlignment) {
  Staging staging = make(16 * kGrain + 100);
  EXPECT_EQ(staging.capacity(), 16 * kGrain);

  const auto first = staging.allocate(1);
  const auto second = staging.allocate(kGrain + 1);

  ASSERT_EQ(first.size(), 1U);
  ASSERT_EQ(second.size(), kGrain + 1);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % kGrain, 0U);
  EXPECT_EQ(second.data(), first.data() + kGrain);
  EXPECT_EQ(staging.bytes_in_use(), 3 * kGrain);
}

TEST(StagingTest, NothingIsGivenForNothing) {
  Staging staging = make(kGrain);

  EXPECT_TRUE(staging.allocate(0).empty());
  staging.release({});
  EXPECT_EQ(staging.bytes_in_use(), 0U);
}

TEST(StagingTest, APoolWithoutMemoryGivesNothing) {
  Staging staging = make(0);

  EXPECT_TRUE(staging.allocate(1).empty());
  EXPECT_EQ(staging.capacity(), 0U);
}

TEST(StagingTest, WhatFitsExactlyIsGivenAndMoreIsNot) {
  Staging staging = make(4 * kGrain);
  EXPECT_TRUE(staging.allocate(4 * kGrain + 1).empty());
  EXPECT_TRUE(staging.allocate(SIZE_MAX).empty());

  const auto all = staging.allocate(4 * kGrain);
  ASSERT_EQ(all.size(), 4 * kGrain);
  EXPECT_TRUE(staging.allocate(1).empty());
  staging.release(all);
  EXPECT_EQ(staging.bytes_in_use(), 0U);
  EXPECT_EQ(staging.allocate(4 * kGrain).size(), 4 * kGrain);
}

TEST(StagingTest, FragmentsDoNotServeALargerChunkUntilTheirNeighbourGoes) {
  Staging staging = make(5 * kGrain);
  std::vector<std::span<std::byte>> chunks;
  chunks.reserve(5);
  for (int i = 0; i < 5; ++i) chunks.push_back(staging.allocate(kGrain));
  staging.release(chunks[0]);
  staging.release(chunks[2]);
  staging.release(chunks[4]);

  EXPECT_TRUE(staging.allocate(2 * kGrain).empty());
  staging.release(chunks[1]);
  const auto joined = staging.allocate(3 * kGrain);
  EXPECT_EQ(joined.data(), chunks[0].data());
  EXPECT_EQ(joined.size(), 3 * kGrain);
  staging.release(chunks[3]);
  EXPECT_EQ(staging.allocate(2 * kGrain).data(), chunks[3].data());
}

TEST(StagingTest, AMovedPoolKeepsItsChunks) {
  Staging staging = make(4 * kGrain);
  const auto chunk = staging.allocate(kGrain);
  std::memset(chunk.data(), 0x5A, chunk.size());

  Staging moved = std::move(staging);

  EXPECT_EQ(chunk[kGrain - 1], std::byte{0x5A});
  moved.release(chunk);
  EXPECT_EQ(moved.allocate(4 * kGrain).size(), 4 * kGrain);
}

/// The largest run of grains that no chunk of the model takes.
std::size_t largest_hole(const std::map<std::size_t, std::size_t>& chunks, std::size_t grains) {
  std::size_t largest = 0;
  std::size_t end = 0;
  for (const auto& [first, count] : chunks) {
    largest = std::max(largest, first - end);
    end = first + count;
  }
  return std::max(largest, grains - end);
}

TEST(StagingTest, RandomUseGivesDisjointChunksAndRefusesOnlyWhatFitsNowhere) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  constexpr std::size_t kPoolGrains = 256;
  Staging staging = make(kPoolGrains * kGrain);
  const std::byte* base = nullptr;
  std::map<std::size_t, std::size_t> model;  // First grain to number of grains.
  std::vector<std::span<std::byte>> live;
  std::uint64_t refused = 0;
  {
    const auto first = staging.allocate(1);
    base = first.data();
    staging.release(first);
  }

  for (int step = 0; step < 30'000; ++step) {
    if (random.below(5) < 3) {
      const std::size_t grains = random.one_in(8) ? 1 + random.below(64) : 1 + random.below(8);
      const auto chunk = staging.allocate(grains * kGrain - random.below(kGrain));
      if (chunk.empty()) {
        ASSERT_LT(largest_hole(model, kPoolGrains), grains);
        ++refused;
        continue;
      }
      const auto offset = static_cast<std::size_t>(chunk.data() - base);
      ASSERT_EQ(offset % kGrain, 0U);
      const std::size_t first = offset / kGrain;
      ASSERT_LE(first + grains, kPoolGrains);
      const auto next = model.lower_bound(first);
      ASSERT_TRUE(next == model.end() || first + grains <= next->first);
      ASSERT_TRUE(next == model.begin() ||
                  std::prev(next)->first + std::prev(next)->second <= first);
      model[first] = grains;
      live.push_back(chunk);
    } else if (!live.empty()) {
      const std::size_t chosen = random.below(live.size());
      model.erase(static_cast<std::size_t>(live[chosen].data() - base) / kGrain);
      staging.release(live[chosen]);
      live[chosen] = live.back();
      live.pop_back();
    }
    std::size_t in_use = 0;
    for (const auto& [first, count] : model) in_use += count * kGrain;
    ASSERT_EQ(staging.bytes_in_use(), in_use);
  }
  EXPECT_GT(refused, 0U);
  for (const auto chunk : live) staging.release(chunk);
  EXPECT_EQ(staging.allocate(kPoolGrains * kGrain).size(), kPoolGrains * kGrain);
}

TEST(StagingDeathTest, ReleasingTwiceOrSomethingElseIsABug) {
  Staging staging = make(8 * kGrain);
  const auto chunk = staging.allocate(2 * kGrain);
  const auto kept = staging.allocate(kGrain);
  std::byte other[8] = {};

  EXPECT_DEATH(staging.release(other), "LARDER_CHECK");
  EXPECT_DEATH(staging.release(kept.subspan(1)), "LARDER_CHECK");
  EXPECT_DEATH(staging.release({kept.data(), 2 * kGrain}), "LARDER_CHECK");
  staging.release(chunk);
  EXPECT_DEATH(staging.release(chunk), "LARDER_CHECK");
  EXPECT_DEATH(staging.release(chunk.subspan(kGrain)), "LARDER_CHECK");
}

}  // namespace
}  // namespace larder::log_store
