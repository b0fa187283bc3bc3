#include "larder/cache/arena/segment_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/forked_child.h"
#include "tests/support/temporary_directory.h"

namespace larder::cache {
namespace {

using testing::ForkedChild;
using testing::TemporaryDirectory;

constexpr std::uint64_t kBytes = std::uint64_t{1} << 20;

class SegmentFileTest : public ::testing::Test {
 protected:
  SetupResult<SegmentFile> create(const std::string& name = "segment") const {
    const NoFork no_fork;
    return SegmentFile::create(directory_.path(), name, kBytes, no_fork);
  }
  std::string path(const std::string& name = "segment") const {
    return directory_.path() + "/" + name;
  }
  bool exists(const std::string& name = "segment") const {
    struct ::stat found{};
    return ::lstat(path(name).c_str(), &found) == 0;
  }
  void expect_refused(const std::string& because) const {
    const auto refused = create();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(refused.error().text.find(because), std::string::npos) << refused.error().text;
    EXPECT_NE(refused.error().text.find(path()), std::string::npos) << refused.error().text;
    EXPECT_NE(refused.error().text.find("choose another name"), std::string::npos);
    EXPECT_TRUE(exists()) << "a name that is refused is left alone";
  }

  TemporaryDirectory directory_{"/dev/shm"};
};

TEST_F(SegmentFileTest, IsPrivateSizedAndGoesWithItsOwner) {
  {
    auto file = create();
    ASSERT_TRUE(file) << file.error().text;
    struct ::stat found{};
    ASSERT_EQ(::lstat(path().c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0600U);
    EXPECT_GE(static_cast<std::uint64_t>(found.st_size), kBytes);
    EXPECT_LE(found.st_blocks, 8) << "only the mark's page is there";
    EXPECT_FALSE(file->has_replaced_stale());
    EXPECT_GT(file->file_system_bytes(), 0U);
    const SegmentFile moved = *std::move(file);
    EXPECT_TRUE(exists());
  }
  EXPECT_FALSE(exists());
}

TEST_F(SegmentFileTest, TheModeIsNotTheUmasks) {
  const ::mode_t before = ::umask(0777);
  const auto file = create();
  ::umask(before);
  ASSERT_TRUE(file) << file.error().text;
  struct ::stat found{};
  ASSERT_EQ(::lstat(path().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600U);
}

TEST_F(SegmentFileTest, ANameOfThisProcessIsRefused) {
  const auto file = create("/segment");
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ(file->name(), "segment");
  expect_refused("in use by process " + std::to_string(::getpid()));
}

TEST_F(SegmentFileTest, ANameIsRefusedWhileItsProcessLivesAndReplacedAfterwards) {
  ForkedChild owner{[&](int) {
    static auto file = create();  // Lives until the child is killed.
    return std::string{file ? "made" : file.error().text};
  }};
  ASSERT_EQ(owner.said(), "made");
  expect_refused("in use by process " + std::to_string(owner.pid()));
  owner.kill();
  ASSERT_TRUE(exists()) << "a kill leaves the name behind";
  {
    const auto file = create();
    ASSERT_TRUE(file) << file.error().text;
    EXPECT_TRUE(file->has_replaced_stale());
    expect_refused("in use by process " + std::to_string(::getpid()));
  }
  EXPECT_FALSE(exists());
}

TEST_F(SegmentFileTest, OfManyThatFindAStaleNameExactlyOneGetsIt) {
  for (int round = 0; round < 200; ++round) {
    {
      // A second name outlives its owner, as after a kill.
      const auto owner = create("owner");
      ASSERT_TRUE(owner) << owner.error().text;
      ASSERT_EQ(::link(path("owner").c_str(), path().c_str()), 0);
    }
    std::vector<std::optional<SetupResult<SegmentFile>>> results(4);
    std::atomic<int> ready = 0;
    {
      std::vector<std::jthread> threads;
      for (auto& result : results) {
        threads.emplace_back([&] {
          for (++ready; ready < 4;) {
          }
          result.emplace(create());
        });
      }
    }
    int winners = 0;
    for (const auto& result : results) winners += *result ? 1 : 0;
    ASSERT_EQ(winners, 1) << "round " << round;
    ASSERT_TRUE(exists());
  }
}

TEST_F(SegmentFileTest, AChildOfADeadOwnerDoesNotKeepItsName) {
  ForkedChild owner{[&](int hold) {
    static auto file = create();
    if (!file) return file.error().text;
    ForkedChild::fork_to_stay(hold);
    return std::string{"made"};
  }};
  ASSERT_EQ(owner.said(), "made");
  owner.kill();  // The grandchild lives on.
  const auto file = create();
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_TRUE(file->has_replaced_stale());
}

TEST_F(SegmentFileTest, WhatIsNotOursIsLeftAlone) {
  const UniqueFd foreign{::open(path().c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)};
  ASSERT_TRUE(foreign);
  expect_refused("was not made by larder");
  ASSERT_EQ(::ftruncate(foreign.get(), 1 << 20), 0);
  expect_refused("was not made by larder");
  ASSERT_EQ(::unlink(path().c_str()), 0);
  ASSERT_EQ(::symlink("/dev/null", path().c_str()), 0);
  expect_refused("is a symbolic link");
  ASSERT_EQ(::unlink(path().c_str()), 0);
  ASSERT_EQ(::mkdir(path().c_str(), 0700), 0);
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(exists());
  ASSERT_EQ(::rmdir(path().c_str()), 0);
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  expect_refused("was not made by larder");
}

TEST_F(SegmentFileTest, AStaleFileOfAnotherUserIsLeftAlone) {
  if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED (needs root)";
  ForkedChild owner{[&](int) {
    static auto file = create();
    return std::string{file ? "made" : file.error().text};
  }};
  ASSERT_EQ(owner.said(), "made");
  owner.kill();
  ASSERT_EQ(::chown(path().c_str(), 12'345, 12'345), 0);
  expect_refused("belongs to user 12345");
}

TEST_F(SegmentFileTest, NamesThatLeadElsewhereAreRefused) {
  for (const std::string& name :
       {std::string{}, std::string{"/"}, std::string{"."}, std::string{"/.."},
        std::string{"../segment"}, std::string{"a/b"}, std::string{"//a"}, std::string(256, 'a'),
        std::string{"a\0b", 3}, std::string{"a\nb"}}) {
    const auto refused = create(name);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  EXPECT_TRUE(create(std::string(255, 'a')));
}

TEST(SegmentFileDirectoryTest, ADirectoryOnADiskOrNoneIsRefused) {
  const NoFork no_fork;
  const auto nowhere = SegmentFile::create("/no/such/directory", "segment", kBytes, no_fork);
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().text.find("No such file"), std::string::npos) << nowhere.error().text;
  const auto too_large = SegmentFile::create("/dev/shm", "larder_test", ~std::uint64_t{0}, no_fork);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, ErrorCode::kInvalidArgument);
  const TemporaryDirectory disk;
  const auto on_disk = SegmentFile::create(disk.path(), "segment", kBytes, no_fork);
  if (on_disk) GTEST_SKIP() << "SKIPPED (needs temporary files on a disk)";
  EXPECT_NE(on_disk.error().text.find("such as /dev/shm"), std::string::npos)
      << on_disk.error().text;
}

}  // namespace
}  // namespace larder::cache
