#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "larder/base/random.h"
#include "larder/cache/layouts.h"
#include "larder/cache/recent_set.h"
#include "larder/cache/slab.h"
#include "larder/cache/timers.h"

namespace larder::cache {
namespace {

TEST(SlabTest, AHandleIsNotFoundAfterItsThingHasEnded) {
  Slab<int> slab;
  const std::uint32_t first = slab.acquire();
  const std::uint64_t handle = slab.handle(first);
  slab[first] = 5;
  ASSERT_NE(slab.find(handle), nullptr);

  slab.release(first);
  EXPECT_EQ(slab.find(handle), nullptr);
  EXPECT_EQ(slab.acquire(), first);

  EXPECT_EQ(slab.find(handle), nullptr);
  EXPECT_EQ(slab.find(~std::uint64_t{0}), nullptr);
}

TEST(SlabTest, ThingsDoNotMove) {
  Slab<int> slab;
  int* const first = &slab[slab.acquire()];
  for (int i = 0; i < 5'000; ++i) slab.acquire();

  EXPECT_EQ(first, &slab[0]);
}

TEST(TimersTest, FiresInTheOrderOfTimesAndThenOfArming) {
  Timers timers;
  Timer a{.id = 1}, b{.id = 2}, c{.id = 3};
  timers.arm(a, 20);
  timers.arm(b, 10);
  timers.arm(c, 10);

  EXPECT_EQ(timers.next_ns(), 10U);
  EXPECT_EQ(timers.take_due(9), nullptr);
  EXPECT_EQ(timers.take_due(30), &b);
  EXPECT_EQ(timers.take_due(30), &c);
  EXPECT_EQ(timers.take_due(30), &a);
  EXPECT_EQ(timers.take_due(30), nullptr);
}

TEST(TimersTest, RandomArmsAndDisarmsMatchASort) {
  Timers timers;
  std::vector<Timer> all(200);
  std::vector<std::uint64_t> due(all.size(), kNever);
  Random random{3};
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t i = random.below(all.size());
    all[i].id = static_cast<std::uint32_t>(i);
    if (random.one_in(4)) {
      timers.disarm(all[i]);
      due[i] = kNever;
    } else {
      due[i] = random.below(1'000'000);
      timers.arm(all[i], due[i]);
    }
    ASSERT_EQ(timers.next_ns(), *std::ranges::min_element(due));
  }
  std::uint64_t last = 0;
  while (Timer* const timer = timers.take_due(kNever - 1)) {
    EXPECT_GE(due[timer->id], last);
    last = due[timer->id];
    due[timer->id] = kNever;
  }
  EXPECT_EQ(std::ranges::count(due, kNever), static_cast<std::ptrdiff_t>(due.size()));
}

TEST(RecentSetTest, TheOldestMakesRoom) {
  RecentSet set{3};
  for (std::uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(set.insert(i));
  EXPECT_FALSE(set.insert(1));

  EXPECT_TRUE(set.insert(4));

  EXPECT_FALSE(set.contains(1));
  EXPECT_TRUE(set.contains(2));
  EXPECT_TRUE(set.contains(4));
  set.erase(4);
  EXPECT_FALSE(set.contains(4));
  EXPECT_EQ(set.note_of(4), std::nullopt);
}

TEST(RecentSetTest, RandomInsertsMatchAQueue) {
  RecentSet set{100};
  std::deque<std::uint64_t> queue;
  std::map<std::uint64_t, std::uint32_t> notes;
  Random random{11};
  for (std::uint32_t step = 0; step < 20'000; ++step) {
    const std::uint64_t number = 1 + random.below(250);
    const bool is_new = std::ranges::find(queue, number) == queue.end();
    ASSERT_EQ(set.contains(number), !is_new);
    ASSERT_EQ(set.insert(number, step), is_new);
    if (is_new) notes[number] = step;
    ASSERT_EQ(set.note_of(number), notes[number]);
    if (!is_new) continue;
    queue.push_back(number);
    if (queue.size() > 100) queue.pop_front();
  }
}

TEST(LayoutsTest, ASecondLayoutOfAModelIsRefusedWhileTheFirstLives) {
  Layouts layouts;
  LayoutSpec spec{.model = "llama", .world_size = 2, .groups = {{.cell_bytes = 4096}}};
  const LayoutId first = *layouts.add(spec);
  EXPECT_EQ(*layouts.add(spec), first);
  spec.groups[0].cell_bytes = 8192;

  ASSERT_FALSE(layouts.add(spec));
  EXPECT_EQ(layouts.add(spec).error().code(), ErrorCode::kInvalidArgument);
  layouts.drop(first);
  ASSERT_FALSE(layouts.add(spec));
  layouts.drop(first);

  const SpaceId space = layouts.add_space(first, SaltId{0});
  const LayoutId second = *layouts.add(spec);
  EXPECT_NE(second, first);
  EXPECT_EQ(layouts.current(space), second);
}

TEST(LayoutsTest, WorldSizesAreApart) {
  Layouts layouts;
  LayoutSpec spec{.model = "llama", .world_size = 2, .groups = {{.cell_bytes = 4096}}};
  const LayoutId two = *layouts.add(spec);
  spec.world_size = 4;
  spec.groups[0].cell_bytes = 2048;

  const LayoutId four = *layouts.add(spec);

  EXPECT_NE(layouts.add_space(two, SaltId{0}), layouts.add_space(four, SaltId{0}));
  EXPECT_NE(layouts.add_space(two, SaltId{0}), layouts.add_space(two, SaltId{1}));
  EXPECT_EQ(layouts.add_space(two, SaltId{1}), layouts.add_space(two, SaltId{1}));
}

TEST(LayoutsTest, ALayoutNeedsGroupsAndRanksWithinTheLimit) {
  Layouts layouts;
  EXPECT_FALSE(layouts.add({.model = "m", .world_size = 1, .groups = {}}));
  EXPECT_FALSE(layouts.add({.model = "m", .world_size = 0, .groups = {{}}}));
  EXPECT_FALSE(layouts.add({.model = "m", .world_size = 4097, .groups = {{}}}));
  EXPECT_TRUE(layouts.add({.model = "m", .world_size = 4096, .groups = {{}}}));
}

TEST(LayoutsTest, ARowOfAWindowNeedsItsEndOnly) {
  Layout layout;
  layout.spec = {
      .model = "m", .world_size = 2, .groups = {{.window_chunks = 0}, {.window_chunks = 3}}};
  EXPECT_EQ(layout.rows(), 4);
  EXPECT_EQ(layout.row_of(1, 1), 3);
  EXPECT_EQ(layout.first_needed(0, 10), 0U);
  EXPECT_EQ(layout.first_needed(1, 10), 7U);
  EXPECT_EQ(layout.first_needed(3, 2), 0U);
}

}  // namespace
}  // namespace larder::cache
