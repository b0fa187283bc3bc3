#include "larder/server/copy/fault_guard.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "larder/base/thread.h"
#include "larder/server/copy/copy_test_support.h"

namespace larder::server {
namespace {

constexpr std::size_t kPage = 4096;

TEST(FaultGuardTest, EndsAnAccessBehindTheEndOfAFile) {
  ASSERT_TRUE(FaultGuard::install());
  const TestSegment segment{"/dev/shm", 4 * kPage};
  std::memset(segment.memory().data(), 1, 4 * kPage);
  segment.truncate(2 * kPage);
  const std::span<std::byte> memory = segment.memory();
  std::byte copied[4 * kPage] = {};
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(FaultGuard::run(
        {&memory, 1}, [&]() noexcept { std::memcpy(copied, memory.data(), 4 * kPage); }));
    EXPECT_TRUE(FaultGuard::run({&memory, 1},
                                [&]() noexcept { std::memcpy(copied, memory.data(), 2 * kPage); }));
  }
  EXPECT_FALSE(
      FaultGuard::run({&memory, 1}, [&]() noexcept { std::memset(memory.data(), 2, 4 * kPage); }));
  EXPECT_EQ(memory[0], std::byte{2});
}

TEST(FaultGuardTest, EachThreadHasItsOwn) {
  ASSERT_TRUE(FaultGuard::install());
  const TestSegment segment{"/dev/shm", 2 * kPage};
  segment.truncate(kPage);
  const std::span<std::byte> memory = segment.memory();
  std::vector<Thread> threads;
  std::atomic<int> faults = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    auto thread = Thread::start("guarded", [&, i] {
      for (int round = 0; round < 100; ++round) {
        const bool is_good =
            FaultGuard::run({&memory, 1}, [&]() noexcept { memory[kPage + i] = std::byte{1}; });
        if (!is_good) ++faults;
      }
    });
    ASSERT_TRUE(thread);
    threads.push_back(std::move(*thread));
  }
  threads.clear();
  EXPECT_EQ(faults, 400);
}

/// In a page that no guard of this memory covers.
void fault_elsewhere() {
  FaultGuard::install().ignore("the death says it");
  const TestSegment segment{"/dev/shm", 2 * kPage};
  segment.truncate(kPage);
  ::unlink(segment.path().c_str());
  volatile std::byte* const beyond = &segment.memory()[kPage];
  const std::span<std::byte> elsewhere;
  FaultGuard::run({&elsewhere, 1}, [&]() noexcept { *beyond = std::byte{1}; });
}

TEST(FaultGuardDeathTest, LeavesOtherFaultsAsTheyWere) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(fault_elsewhere(), "");  // Sanitizers report it, and end the process themselves.
}

}  // namespace
}  // namespace larder::server
