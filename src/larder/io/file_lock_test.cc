#include "larder/io/file_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::io {
namespace {

class FileLockTest : public ::testing::Test {
 protected:
  LockedFile open() const {
    LockedFile file;
    const NoFork no_fork;
    file.fd.reset(
        ::open((directory_.path() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    file.guard = ForkGuard{file.fd.get()};
    return file;
  }
  /// 0 when it was locked; else EDEADLK, or -1 for "another owner has it".
  static int lock(LockedFile& file) {
    auto lock = FileLock::try_take(file.fd.get());
    if (lock) {
      file.lock = std::move(*lock);
      return 0;
    }
    return lock.error().code() == ErrorCode::kUnavailable ? -1 : lock.error().sys_errno();
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(FileLockTest, ThisProcessIsToldApartFromAnother) {
  LockedFile mine = open();
  LockedFile again = open();
  ASSERT_EQ(lock(mine), 0);
  EXPECT_EQ(lock(again), EDEADLK);
  const testing::ForkedChild child{[this](int /*hold*/) {
    LockedFile theirs = open();
    return std::to_string(lock(theirs));
  }};
  EXPECT_EQ(child.said(), "-1");
  mine = LockedFile{};
  EXPECT_EQ(lock(again), 0);
}

TEST_F(FileLockTest, WhoIsDoneWithTheFileMayBeWaitedFor) {
  LockedFile mine = open();
  LockedFile again = open();
  ASSERT_EQ(lock(mine), 0);
  mine.lock.retire();
  EXPECT_EQ(lock(again), -1);
  mine.lock.release();
  EXPECT_EQ(lock(again), 0);
}

TEST_F(FileLockTest, AChildThatDropsItsCopyLeavesTheParentsLock) {
  LockedFile mine = open();
  ASSERT_EQ(lock(mine), 0);
  const testing::ForkedChild child{[&](int /*hold*/) -> std::string {
    mine.lock.release();
    mine = LockedFile{};
    return "dropped";
  }};
  ASSERT_EQ(child.said(), "dropped");
  const testing::ForkedChild other{[this](int /*hold*/) {
    LockedFile theirs = open();
    return std::to_string(lock(theirs));
  }};
  EXPECT_EQ(other.said(), "-1");
}

}  // namespace
}  // namespace larder::io
