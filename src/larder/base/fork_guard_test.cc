#include "larder/base/fork_guard.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <string>
#include <thread>

#include "larder/base/unique_fd.h"
#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder {
namespace {

/// The file that a child forked now has at this number.
std::string seen_by_a_child(int fd) {
  const testing::ForkedChild child{[fd](int /*hold*/) -> std::string {
    struct stat status{};
    if (::fstat(fd, &status) != 0) return "nothing";
    return S_ISCHR(status.st_mode) ? "/dev/null" : "the file";
  }};
  return child.said();
}

class ForkGuardTest : public ::testing::Test {
 protected:
  UniqueFd file() const {
    return UniqueFd{
        ::open((directory_.path() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(ForkGuardTest, AChildHasTheNumberAndNotTheFile) {
  const UniqueFd plain = file();
  const UniqueFd guarded = file();
  ForkGuard guard{guarded.get()};
  EXPECT_EQ(seen_by_a_child(plain.get()), "the file");
  EXPECT_EQ(seen_by_a_child(guarded.get()), "/dev/null");
  struct stat status{};
  ASSERT_EQ(::fstat(guarded.get(), &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
}

TEST_F(ForkGuardTest, TheGuardGoesWithItsOwner) {
  const UniqueFd fd = file();
  {
    ForkGuard guard{fd.get()};
    ForkGuard other{std::move(guard)};
    EXPECT_EQ(seen_by_a_child(fd.get()), "/dev/null");
  }
  EXPECT_EQ(seen_by_a_child(fd.get()), "the file");
  ForkGuard again{fd.get()};
  again = ForkGuard{};
  EXPECT_EQ(seen_by_a_child(fd.get()), "the file");
}

TEST_F(ForkGuardTest, AGrandchildHasNothingEither) {
  const UniqueFd fd = file();
  const ForkGuard guard{fd.get()};
  const testing::ForkedChild child{[&](int /*hold*/) { return seen_by_a_child(fd.get()); }};
  EXPECT_EQ(child.said(), "/dev/null");
}

TEST_F(ForkGuardTest, WhatAChildMakesItKeepsFromItsOwnChildren) {
  const testing::ForkedChild child{[this](int /*hold*/) {
    const UniqueFd fd = file();
    const NoFork no_fork;
    static const ForkGuard guard{fd.get()};
    return std::string{"made"};
  }};
  EXPECT_EQ(child.said(), "made");
}

TEST_F(ForkGuardTest, NoChildIsMadeBetweenADescriptorAndItsGuard) {
  for (int round = 0; round < 50; ++round) {
    UniqueFd fd;
    ForkGuard guard;
    std::atomic<int> number = -1;
    std::thread opener{[&] {
      const NoFork no_fork;
      fd = file();
      number.store(fd.get());
      number.notify_one();
      for (int i = 0; i < 200; ++i) std::this_thread::yield();
      guard = ForkGuard{fd.get()};
    }};
    number.wait(-1);
    const std::string seen = seen_by_a_child(number.load());
    opener.join();
    ASSERT_EQ(seen, "/dev/null") << "in round " << round;
  }
}

}  // namespace
}  // namespace larder
