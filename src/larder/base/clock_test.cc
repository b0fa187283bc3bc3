#include "larder/base/clock.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>
#include <vector>

#include "larder/base/mutex.h"

namespace larder {
namespace {

TEST(RealClockTest, IsTheMonotonicClockOfTheSystem) {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  const auto before = static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
                      static_cast<std::uint64_t>(time.tv_nsec);
  const std::uint64_t now = RealClock::instance().now_ns();
  EXPECT_GE(now, before);
  EXPECT_GE(RealClock::instance().now_ns(), now);
  EXPECT_LT(now, kNever);
}

TEST(RealClockTest, WallSecondsAreThoseSince1970) {
  const auto before = static_cast<std::uint64_t>(std::time(nullptr));
  EXPECT_GE(RealClock::instance().wall_seconds() + 1, before);
}

TEST(ManualClockTest, MovesOnlyWhenTold) {
  ManualClock clock{5'000'000'000};
  EXPECT_EQ(clock.now_ns(), 5'000'000'000U);
  EXPECT_EQ(clock.wall_seconds(), 5U);
  clock.advance_ns(10);
  EXPECT_EQ(clock.now_ns(), 5'000'000'010U);
  clock.advance_to_ns(7'000'000'000);
  EXPECT_EQ(clock.now_ns(), 7'000'000'000U);
}

TEST(ManualClockTest, NeverMovesBackwards) {
  ManualClock clock{100};
  clock.advance_to_ns(99);
  EXPECT_EQ(clock.now_ns(), 100U);

  // Two threads advance it at once: the later time stays.
  std::vector<std::jthread> threads;
  threads.reserve(2);
  for (std::uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&clock, i] {
      for (std::uint64_t time = 1'000 + i; time <= 200'000; time += 2) {
        clock.advance_to_ns(time);
        EXPECT_GE(clock.now_ns(), time);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(clock.now_ns(), 200'000U);
}

struct Mailbox {
  Mutex mutex;
  CondVar changed;
  int letters LARDER_GUARDED_BY(mutex) = 0;
};

TEST(CondVarTest, WakesAWaiterAndKeepsTheMutex) {
  Mailbox box;
  const std::jthread sender{[&box] {
    const MutexLock lock{box.mutex};
    box.letters = 1;
    box.changed.notify_all();
  }};
  const MutexLock lock{box.mutex};
  while (box.letters == 0) box.changed.wait(box.mutex);
  EXPECT_EQ(box.letters, 1);
}

TEST(CondVarTest, WaitForTellsWhetherTheTimePassed) {
  Mailbox box;
  {
    const MutexLock lock{box.mutex};
    while (box.changed.wait_for(box.mutex, 1'000)) {  // Until it is not spurious.
    }
  }
  const std::jthread sender{[&box] {
    const MutexLock lock{box.mutex};
    box.letters = 1;
    box.changed.notify_one();
  }};
  const MutexLock lock{box.mutex};
  while (box.letters == 0) EXPECT_TRUE(box.changed.wait_for(box.mutex, kNever));
}

}  // namespace
}  // namespace larder
