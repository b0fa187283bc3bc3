#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "tests/support/io/device_test_support.h"
#include "tests/support/seccomp.h"

namespace larder::io {
namespace {

/// Sets LARDER_IO for a scope; nothing unsets it.
class IoEnvironment {
 public:
  explicit IoEnvironment(const char* value) {
    if (const char* const before = std::getenv("LARDER_IO")) before_ = before;
    set(value);
  }
  ~IoEnvironment() { set(before_ ? before_->c_str() : nullptr); }
  IoEnvironment(const IoEnvironment&) = delete;
  IoEnvironment& operator=(const IoEnvironment&) = delete;

 private:
  static void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv("LARDER_IO");
    } else {
      ::setenv("LARDER_IO", value, 1);
    }
  }

  std::optional<std::string> before_;
};

class OpenDeviceTest : public ::testing::Test {
 protected:
  DeviceOptions options() const {
    DeviceOptions options;
    options.directory = directory_.path();
    return options;
  }

  testing::TemporaryDirectory directory_;
};

void expect_refusal(const DeviceOptions& options, const std::string& text) {
  const auto device = open_device(options);
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(device.error().text.find(text), std::string::npos) << device.error().text;
}

TEST_F(OpenDeviceTest, EnvironmentChoosesThreads) {
  const IoEnvironment environment{"threads"};
  const auto device = open_device(options());
  ASSERT_TRUE(device.has_value()) << device.error().text;
  EXPECT_EQ(device->backend, "threads");
  // A requested mode is no degradation.
  EXPECT_EQ(device->degraded_why.find("threads"), std::string::npos);
}

TEST_F(OpenDeviceTest, UringIsTheDefaultWhereItWorks) {
  if (const auto why = DeviceHarness{{"uring"}}.why_not()) GTEST_SKIP() << *why;
  for (const char* const value : {static_cast<const char*>(nullptr), "", "uring"}) {
    const IoEnvironment environment{value};
    const auto device = open_device(options());
    ASSERT_TRUE(device.has_value()) << device.error().text;
    EXPECT_EQ(device->backend, "uring");
  }
}

TEST_F(OpenDeviceTest, OtherValuesOfTheEnvironmentAreRefused) {
  const IoEnvironment environment{"aio"};
  expect_refusal(options(), "'aio'");
}

TEST_F(OpenDeviceTest, OptionsOutOfRangeAreRefusedByName) {
  DeviceOptions bad = options();
  bad.depth = 0;
  expect_refusal(bad, "depth is 0");
  bad.depth = 4097;
  expect_refusal(bad, "depth is 4097");
  bad = options();
  bad.threads = 257;
  expect_refusal(bad, "threads is 257");
  bad = options();
  bad.files_max = 0;
  expect_refusal(bad, "files_max is 0");
}

TEST_F(OpenDeviceTest, MissingDirectoryIsNamed) {
  DeviceOptions missing = options();
  missing.directory += "/missing";
  const auto device = open_device(missing);
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().code, ErrorCode::kIo);
  EXPECT_NE(device.error().text.find(missing.directory), std::string::npos);
}

TEST_F(OpenDeviceTest, ExtremeDepthsWork) {
  for (const std::uint32_t depth : {1U, 4096U}) {
    DeviceOptions extreme = options();
    extreme.depth = depth;
    const auto device = open_device(extreme);
    ASSERT_TRUE(device.has_value()) << device.error().text;
    const std::string name = "file" + std::to_string(depth);
    const FileId file = make_file(*device->directory, name, kTestBlock);
    const auto written = write_random(*device->queue, file, 0, kTestBlock, depth);
    EXPECT_EQ(read_back(*device->queue, file, 0, kTestBlock), written);
  }
}

TEST_F(OpenDeviceTest, FileSystemInMemoryHasNoDirectIo) {
  struct statfs status{};
  if (::statfs("/dev/shm", &status) != 0 || status.f_type != TMPFS_MAGIC) {
    GTEST_SKIP() << "needs a tmpfs at /dev/shm";
  }
  const testing::TemporaryDirectory in_memory{"/dev/shm"};
  DeviceOptions wanted;
  wanted.directory = in_memory.path();
  const auto device = open_device(wanted);
  ASSERT_TRUE(device.has_value()) << device.error().text;
  EXPECT_FALSE(device->directory->facts().direct);
  EXPECT_EQ(device->directory->facts().file_system, "tmpfs");
  EXPECT_NE(device->degraded_why.find("tmpfs"), std::string::npos);
  const FileId file = make_file(*device->directory, "file", kTestBlock);
  const auto written = write_random(*device->queue, file, 0, kTestBlock, 1);
  EXPECT_EQ(read_back(*device->queue, file, 0, kTestBlock), written);

  wanted.direct = DirectIo::kRequired;
  expect_refusal(wanted, "direct I/O");
}

// --- Without io_uring ---------------------------------------------------------------------------

/// Ends the process with 0 if all checks hold, else with a line that names the failed one.
void expect_fallback(const DeviceOptions& options, int sys_errno, const std::string& remedy) {
  const auto check = [](bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "wrong: %s\n", what);
    ::_exit(1);
  };
  ::unsetenv("LARDER_IO");
  check(testing::forbid_uring(sys_errno), "the filter");
  const auto device = open_device(options);
  check(device.has_value(), "there is no device");
  check(device->backend == "threads", "the backend");
  check(device->degraded_why.find(remedy) != std::string::npos, "the remedy");
  const FileId file = make_file(*device->directory, "file", kTestBlock);
  const auto written = write_random(*device->queue, file, 0, kTestBlock, 1);
  check(read_back(*device->queue, file, 0, kTestBlock) == written, "the bytes");
  check(open_device(options).has_value(), "the second device");  // Not logged again.

  ::setenv("LARDER_IO", "uring", 1);
  const auto refused = open_device(options);
  check(!refused.has_value(), "LARDER_IO=uring fell back");
  check(refused.error().text.find(remedy) != std::string::npos, "the error's remedy");
  std::filesystem::remove_all(options.directory);
  std::fprintf(stderr, "all good\n");
  ::_exit(0);
}

using OpenDeviceDeathTest = OpenDeviceTest;

TEST_F(OpenDeviceDeathTest, ForbiddenUringFallsBackToThreadsAndSaysWhy) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(expect_fallback(options(), EPERM, "kernel.io_uring_disabled"),
              ::testing::ExitedWithCode(0), "io_uring cannot be used");
}

TEST_F(OpenDeviceDeathTest, MissingUringFallsBackToThreadsAndSaysWhy) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(expect_fallback(options(), ENOSYS, "CONFIG_IO_URING"), ::testing::ExitedWithCode(0),
              "all good");
}

TEST_F(OpenDeviceDeathTest, ScarceMemoryFallsBackToThreadsAndSaysWhy) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(expect_fallback(options(), ENOMEM, "ulimit -l"), ::testing::ExitedWithCode(0),
              "all good");
}

}  // namespace
}  // namespace larder::io
