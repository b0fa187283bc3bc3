// The test's own tool: a fault must be what it says.
#include "tests/support/faulty_directory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "larder/base/aligned_buffer.h"
#include "larder/base/random.h"
#include "larder/base/unique_fd.h"
#include "tests/faults/fault_fixture.h"

namespace larder::faults {
namespace {

using testing::FaultyDirectory;

class FaultyDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto directory = FaultyDirectory::create();
    LARDER_SKIP_IF_IMPOSSIBLE(directory);
    directory_ = std::move(*directory);
    path_ = directory_->path() + "/file";
  }
  UniqueFd make_file(int flags = 0) const {
    UniqueFd fd{::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600)};
    EXPECT_TRUE(static_cast<bool>(fd)) << errno;
    return fd;
  }

  std::unique_ptr<FaultyDirectory> directory_;
  std::string path_;
};

TEST_F(FaultyDirectoryTest, PassesEverythingOn) {
  constexpr std::size_t kBytes = 3U << 20;
  auto written = AlignedBuffer::create(kBytes, 4096);
  auto back = AlignedBuffer::create(kBytes, 4096);
  ASSERT_TRUE(written && back);
  Random{1}.fill(written->span());
  for (const int flags : {0, O_DIRECT}) {
    const UniqueFd fd = make_file(flags);
    ASSERT_EQ(::fallocate(fd.get(), 0, 0, kBytes), 0);
    ASSERT_EQ(::pwrite(fd.get(), written->data(), kBytes, 0), static_cast<ssize_t>(kBytes));
    ASSERT_EQ(::fsync(fd.get()), 0);
    ASSERT_EQ(::pread(fd.get(), back->data(), kBytes, 0), static_cast<ssize_t>(kBytes));
    EXPECT_TRUE(std::ranges::equal(written->span(), back->span()));
    EXPECT_EQ(std::filesystem::file_size(path_), kBytes);
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator{directory_->path()}) {
      EXPECT_EQ(entry.path(), path_);
      ++files;
    }
    EXPECT_EQ(files, 1U);
    ASSERT_EQ(::unlink(path_.c_str()), 0);
    EXPECT_FALSE(std::filesystem::exists(path_));
    ASSERT_EQ(::pread(fd.get(), back->data(), 4096, 0), 4096);  // It is still open.
  }
  EXPECT_EQ(directory_->faults(), 0U);
}

TEST_F(FaultyDirectoryTest, FailsWhatItWasToldToAndNothingElse) {
  const UniqueFd fd = make_file();
  char byte = 'x';
  ASSERT_EQ(::pwrite(fd.get(), &byte, 1, 0), 1);
  directory_->fail(testing::kWrites | testing::kCreates, EDQUOT);
  EXPECT_EQ(::pwrite(fd.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, EDQUOT);
  EXPECT_EQ(::open((path_ + "2").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), -1);
  EXPECT_EQ(errno, EDQUOT);
  EXPECT_EQ(::pread(fd.get(), &byte, 1, 0), 1);
  EXPECT_EQ(directory_->faults(), 2U);
  directory_->heal();
  EXPECT_EQ(::pwrite(fd.get(), &byte, 1, 0), 1);
}

TEST_F(FaultyDirectoryTest, HoldsWhatItWasToldToUntilItIsHealed) {
  const UniqueFd fd = make_file();
  directory_->stall(testing::kWrites);
  std::atomic<bool> is_healed = false;
  std::thread writer{[&] {
    const char byte = 'x';
    EXPECT_EQ(::pwrite(fd.get(), &byte, 1, 0), 1);
    EXPECT_TRUE(is_healed);
  }};
  while (directory_->faults() == 0) std::this_thread::yield();
  is_healed = true;
  directory_->heal();
  writer.join();
}

TEST_F(FaultyDirectoryTest, LetsOthersThroughWhileItHoldsWhatWaits) {
  const UniqueFd fd = make_file();
  directory_->stall(testing::kWrites);
  std::atomic<bool> is_healed = false;
  std::thread writer{[&] {
    const char byte = 'x';
    EXPECT_EQ(::pwrite(fd.get(), &byte, 1, 0), 1);
    EXPECT_TRUE(is_healed);
  }};
  while (directory_->faults() == 0) std::this_thread::yield();
  directory_->let_others_through();
  const UniqueFd other{::open((path_ + "2").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  const char byte = 'y';
  EXPECT_EQ(::pwrite(other.get(), &byte, 1, 0), 1);
  is_healed = true;
  directory_->heal();
  writer.join();
}

/// Whether a file made under one name is found under another.
bool are_one(const testing::OddNames& names, const std::string& made, const std::string& asked) {
  const auto directory = FaultyDirectory::create(names);
  if (!directory) return false;
  const std::string path = (*directory)->path() + "/";
  const UniqueFd fd{::open((path + made).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  return fd && ::access((path + asked).c_str(), F_OK) == 0;
}

TEST_F(FaultyDirectoryTest, NamesAreWhatTheOptionsSay) {
  EXPECT_TRUE(are_one({}, "Name", "Name"));
  EXPECT_FALSE(are_one({}, "Name", "name"));
  EXPECT_TRUE(are_one({.ignores_case = true}, "Name", "nAME"));
  EXPECT_FALSE(are_one({.ignores_case = true}, "Name", "game"));
  EXPECT_FALSE(are_one({}, "e\xCC\x81", "\xC3\xA9"));
  EXPECT_TRUE(are_one({.composes = true}, "e\xCC\x81", "\xC3\xA9"));
  EXPECT_FALSE(are_one({.refuses_unportable = true}, "a:b", "a:b"));
  EXPECT_TRUE(are_one({.bytes_max = 5}, "12345", "12345"));
  EXPECT_FALSE(are_one({.bytes_max = 5}, "123456", "123456"));
  EXPECT_TRUE(are_one({.bytes_max = 5, .cuts_names = true}, "123456", "12345"));
}

}  // namespace
}  // namespace larder::faults
