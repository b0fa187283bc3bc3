#include "larder/cache/arena/slot_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/random.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kGrain = 4096;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

SlotAllocator make(std::uint64_t grains, std::uint64_t grain = kGrain) {
  auto made = SlotAllocator::create(grains * grain, grain);
  EXPECT_TRUE(made);
  made->extend(grains * grain);
  return *std::move(made);
}

/// One bit for each grain, with no search structure.
class Model {
 public:
  explicit Model(std::uint64_t grains) : used_(grains, false) {}

  void take(std::uint64_t first, std::uint64_t grains) {
    for (std::uint64_t grain = first; grain < first + grains; ++grain) {
      ASSERT_LT(grain, used_.size());
      ASSERT_FALSE(used_[grain]) << "grain " << grain << " is handed out twice";
      used_[grain] = true;
    }
  }
  void give_back(std::uint64_t first, std::uint64_t grains) {
    std::fill_n(used_.begin() + static_cast<std::ptrdiff_t>(first), grains, false);
  }
  std::uint64_t free() const {
    return static_cast<std::uint64_t>(std::count(used_.begin(), used_.end(), false));
  }
  std::uint64_t largest() const {
    std::uint64_t largest = 0;
    std::uint64_t run = 0;
    for (const bool is_used : used_) {
      run = is_used ? 0 : run + 1;
      largest = std::max(largest, run);
    }
    return largest;
  }
  std::uint64_t tail() const {
    const auto last = std::find(used_.rbegin(), used_.rend(), true);
    return static_cast<std::uint64_t>(last - used_.rbegin());
  }

 private:
  std::vector<bool> used_;
};

TEST(SlotAllocatorTest, ThirtyTwoKibHoldEightSlots) {
  SlotAllocator slots = make(8);
  for (std::uint64_t i = 0; i < 8; ++i) EXPECT_EQ(slots.allocate(4096), i * 4096);
  EXPECT_EQ(slots.allocate(1), std::nullopt);
  EXPECT_EQ(slots.free_bytes(), 0U);
  EXPECT_EQ(slots.slots(), 8U);
  slots.free(5 * kGrain);
  EXPECT_EQ(slots.allocate(4096), 5 * 4096);
}

TEST(SlotAllocatorTest, NeighboursGrowTogetherInEveryOrder) {
  std::vector<std::uint64_t> order = {0, 1, 2, 3};
  do {
    SlotAllocator slots = make(4);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(slots.allocate(kGrain));
    for (const std::uint64_t grain : order) {
      slots.free(grain * kGrain);
      slots.check_invariants();
    }
    EXPECT_EQ(slots.largest_free_bytes(), 4 * kGrain);
    EXPECT_EQ(slots.allocate(4 * kGrain), 0U);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(SlotAllocatorTest, FragmentationIsTheShareOutsideOfTheLargestRun) {
  SlotAllocator slots = make(10);
  EXPECT_EQ(slots.fragmentation(), 0);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(slots.allocate(kGrain));
  EXPECT_EQ(slots.fragmentation(), 0) << "nothing is free";
  for (const std::uint64_t grain : {0U, 2U, 3U, 4U}) slots.free(grain * kGrain);
  EXPECT_EQ(slots.free_bytes(), 4 * kGrain);
  EXPECT_EQ(slots.largest_free_bytes(), 3 * kGrain);
  EXPECT_DOUBLE_EQ(slots.fragmentation(), 0.25);
  EXPECT_EQ(slots.allocate(4 * kGrain), std::nullopt) << "enough is free, but not in one piece";
}

TEST(SlotAllocatorTest, RunsThatWereUsedComeBeforeTheRest) {
  SlotAllocator slots = make(1000);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(slots.allocate(10 * kGrain));
  slots.free(70 * kGrain);
  slots.free(30 * kGrain);
  slots.free(50 * kGrain);
  EXPECT_EQ(slots.allocate(10 * kGrain), 30 * kGrain);
  EXPECT_EQ(slots.allocate(10 * kGrain), 50 * kGrain);
  EXPECT_EQ(slots.allocate(10 * kGrain), 70 * kGrain);
  EXPECT_EQ(slots.allocate(10 * kGrain), 100 * kGrain);
}

TEST(SlotAllocatorTest, ARunOfExactlyTheSizeIsFoundWhateverItsClass) {
  // A size that is not the first of its class: rounding it up to the next class would miss the run.
  for (const std::uint64_t grains : {129U, 1000U, 4353U, 100'001U}) {
    SlotAllocator slots = make(2 * grains);
    ASSERT_EQ(slots.allocate(grains * kGrain), 0U);
    ASSERT_EQ(slots.allocate(grains * kGrain), grains * kGrain);
    slots.free(0);
    EXPECT_EQ(slots.allocate(grains * kGrain), 0U) << grains;
    slots.free(grains * kGrain);
    EXPECT_EQ(slots.allocate(grains * kGrain), grains * kGrain) << grains;
  }
}

TEST(SlotAllocatorTest, HostileSizes) {
  SlotAllocator slots = make(8);
  EXPECT_EQ(slots.allocate(kHuge), std::nullopt);
  EXPECT_EQ(slots.allocate(kHuge - kGrain), std::nullopt);
  EXPECT_EQ(slots.allocate(kHuge - kGrain + 1), std::nullopt);
  EXPECT_EQ(slots.allocate(std::uint64_t{1} << 44), std::nullopt) << "2^32 grains";
  EXPECT_EQ(slots.allocate((std::uint64_t{1} << 44) + 1), std::nullopt);
  EXPECT_EQ(slots.allocate(8 * kGrain + 1), std::nullopt);
  EXPECT_EQ(slots.taken_for(kHuge), kHuge);
  EXPECT_EQ(slots.taken_for(0), kGrain);
  EXPECT_EQ(slots.taken_for(kGrain), kGrain);
  EXPECT_EQ(slots.taken_for(kGrain + 1), 2 * kGrain);
  const auto nothing = slots.allocate(0);
  ASSERT_TRUE(nothing);
  EXPECT_EQ(slots.bytes_at(*nothing), kGrain);
  EXPECT_EQ(slots.free_bytes(), 7 * kGrain);
  slots.check_invariants();
}

TEST(SlotAllocatorTest, CreateRefusesWhatItCannotDo) {
  for (const auto& [capacity, grain] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, kGrain},
                                                            {kGrain - 1, kGrain},
                                                            {1 << 20, 0},
                                                            {1 << 20, 3000},
                                                            {1 << 20, 32},
                                                            {kHuge, std::uint64_t{1} << 31},
                                                            {kHuge, kGrain},
                                                            {std::uint64_t{1} << 44, kGrain}}) {
    const auto made = SlotAllocator::create(capacity, grain);
    ASSERT_FALSE(made) << capacity << " " << grain;
    EXPECT_EQ(made.error().code(), ErrorCode::kInvalidArgument);
  }
  const auto whole_grains = SlotAllocator::create(3 * kGrain - 1, kGrain);
  ASSERT_TRUE(whole_grains);
  EXPECT_EQ(whole_grains->capacity_bytes(), 2 * kGrain);
}

TEST(SlotAllocatorTest, OnlyTheExtentIsHandedOut) {
  auto made = SlotAllocator::create(100 * kGrain, kGrain);
  ASSERT_TRUE(made);
  SlotAllocator slots = *std::move(made);
  EXPECT_EQ(slots.allocate(1), std::nullopt);
  EXPECT_EQ(slots.free_tail_bytes(), 0U);
  slots.extend(10 * kGrain);
  EXPECT_EQ(slots.free_tail_bytes(), 10 * kGrain);
  EXPECT_EQ(slots.allocate(10 * kGrain), 0U);
  EXPECT_EQ(slots.allocate(1), std::nullopt);
  slots.extend(5 * kGrain);
  EXPECT_EQ(slots.free_tail_bytes(), 5 * kGrain);
  slots.extend(5 * kGrain);
  slots.check_invariants();
  EXPECT_EQ(slots.allocate(10 * kGrain), 10 * kGrain) << "two extents are one run";
  slots.extend(80 * kGrain);
  slots.free(0);
  slots.free(10 * kGrain);
  slots.check_invariants();
  EXPECT_EQ(slots.largest_free_bytes(), 100 * kGrain);
}

TEST(SlotAllocatorTest, AGrowingArenaOfASizeThatNoHostHas) {
  auto made = SlotAllocator::create(SlotAllocator::kGrainsMax * 64 / 4096, 64);
  ASSERT_TRUE(made) << "64 MiB of slots of 64 bytes";
  auto large = SlotAllocator::create(std::uint64_t{1} << 40, SlotAllocator::kGrainMax);
  ASSERT_TRUE(large);
  large->extend(large->capacity_bytes());
  EXPECT_EQ(large->allocate(std::uint64_t{1} << 39), 0U);
  EXPECT_EQ(large->allocate(std::uint64_t{1} << 39), std::uint64_t{1} << 39);
  EXPECT_EQ(large->free_bytes(), 0U);
}

using SlotAllocatorDeathTest = ::testing::Test;

TEST(SlotAllocatorDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  SlotAllocator slots = make(8);
  ASSERT_EQ(slots.allocate(2 * kGrain), 0U);
  ASSERT_EQ(slots.allocate(kGrain), 2 * kGrain);
  EXPECT_DEATH(slots.free(kGrain), "LARDER_CHECK") << "inside of a slot";
  EXPECT_DEATH(slots.free(3 * kGrain), "LARDER_CHECK") << "a free run";
  EXPECT_DEATH(slots.free(1), "LARDER_CHECK") << "between two grains";
  EXPECT_DEATH(slots.free(8 * kGrain), "LARDER_CHECK") << "behind the extent";
  EXPECT_DEATH(slots.free(kHuge), "LARDER_CHECK");
  EXPECT_DEATH(slots.extend(kGrain), "LARDER_CHECK") << "beyond the capacity";
  slots.free(0);
  EXPECT_DEATH(slots.free(0), "LARDER_CHECK") << "twice";
  slots.free(2 * kGrain);
  EXPECT_DEATH(slots.free(2 * kGrain), "LARDER_CHECK") << "twice, after it was merged";
  EXPECT_DEATH(static_cast<void>(slots.bytes_at(0)), "LARDER_CHECK");
}

struct History {
  std::uint64_t grains = 0;
  std::uint64_t slot_grains_max = 0;
  int steps = 0;
  std::uint64_t seed = 0;
  /// Every size is the same, so that the allocator may never miss a run.
  bool one_size = false;
};

class SlotAllocatorHistoryTest : public ::testing::TestWithParam<History> {};

struct LiveSlot {
  std::uint64_t offset = 0;
  std::uint64_t grains = 0;
};

/// Runs with sizes of one class only: nothing above is missed, whatever the search gives up.
bool may_miss(std::uint64_t size, std::uint64_t largest) {
  if (size < 128) return false;
  std::uint64_t step = 1;
  while (size / step >= 128) step *= 2;
  return largest / step == size / step;
}

TEST_P(SlotAllocatorHistoryTest, AgreesWithABitmap) {
  const History& history = GetParam();
  SlotAllocator slots = make(history.grains);
  Model model{history.grains};
  Random random{history.seed};
  std::vector<LiveSlot> live;
  int refused = 0;
  int missed = 0;
  for (int step = 0; step < history.steps; ++step) {
    // Fills and drains in turn, so that both full and nearly empty arenas are seen.
    const bool is_filling = (step / 500) % 2 == 0;
    const bool is_allocation = live.empty() || random.below(10) < (is_filling ? 7U : 3U);
    if (is_allocation) {
      const std::uint64_t grains =
          history.one_size ? history.slot_grains_max : 1 + random.below(history.slot_grains_max);
      const auto offset = slots.allocate(grains * kGrain - random.below(kGrain));
      const std::uint64_t largest = model.largest();
      if (offset) {
        ASSERT_EQ(*offset % kGrain, 0U);
        ASSERT_NO_FATAL_FAILURE(model.take(*offset / kGrain, grains));
        ASSERT_EQ(slots.bytes_at(*offset), grains * kGrain);
        live.push_back({*offset, grains});
      } else if (largest >= grains) {
        ASSERT_TRUE(!history.one_size && may_miss(grains, largest))
            << "seed " << history.seed << " step " << step << ": " << grains << " of " << largest;
        ++missed;
      } else {
        ++refused;
      }
    } else {
      std::swap(live[random.below(live.size())], live.back());
      slots.free(live.back().offset);
      model.give_back(live.back().offset / kGrain, live.back().grains);
      live.pop_back();
    }
    ASSERT_EQ(slots.free_bytes(), model.free() * kGrain);
    ASSERT_EQ(slots.slots(), live.size());
    if (step % 64 != 0) continue;
    ASSERT_EQ(slots.largest_free_bytes(), model.largest() * kGrain);
    ASSERT_EQ(slots.free_tail_bytes(), model.tail() * kGrain);
    slots.check_invariants();
  }
  EXPECT_GT(refused, 0) << "the history never filled the arena";
  EXPECT_LE(missed, refused / 10);
  for (const LiveSlot& slot : live) slots.free(slot.offset);
  EXPECT_EQ(slots.largest_free_bytes(), history.grains * kGrain) << "everything grows together";
}

INSTANTIATE_TEST_SUITE_P(
    Histories, SlotAllocatorHistoryTest,
    ::testing::Values(
        History{.grains = 64, .slot_grains_max = 8, .steps = 20'000, .seed = 1},
        History{.grains = 1000, .slot_grains_max = 100, .steps = 20'000, .seed = 2},
        History{.grains = 150, .slot_grains_max = 1, .steps = 40'000, .seed = 3, .one_size = true},
        History{.grains = 20'000,
                .slot_grains_max = 1001,
                .steps = 20'000,
                .seed = 4,
                .one_size = true},
        History{.grains = 20'000, .slot_grains_max = 2000, .steps = 20'000, .seed = 5}),
    [](const ::testing::TestParamInfo<History>& history) {
      return "Seed" + std::to_string(history.param.seed);
    });

TEST(SlotAllocatorTest, TheSameCallsGiveTheSameOffsets) {
  const auto run = [] {
    SlotAllocator slots = make(3000);
    Random random{7};
    std::vector<std::uint64_t> offsets;
    std::vector<std::uint64_t> log;
    for (int step = 0; step < 5000; ++step) {
      if (offsets.empty() || random.below(10) < 6) {
        const auto offset = slots.allocate((1 + random.below(50)) * kGrain);
        log.push_back(offset.value_or(kHuge));
        if (offset) offsets.push_back(*offset);
      } else {
        std::swap(offsets[random.below(offsets.size())], offsets.back());
        slots.free(offsets.back());
        offsets.pop_back();
      }
    }
    return log;
  };
  EXPECT_EQ(run(), run());
}

}  // namespace
}  // namespace larder::cache
