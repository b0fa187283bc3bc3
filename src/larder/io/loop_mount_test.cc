// Direct I/O on the file systems that people use, with the sector sizes that disks have.

#include "tests/support/loop_mount.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <tuple>

#include "tests/support/io/device_test_support.h"

namespace larder::io {
namespace {

class LoopMountTest
    : public ::testing::TestWithParam<std::tuple<std::string, std::uint32_t, bool>> {
 protected:
  void SetUp() override {
    const auto& [file_system, sector_bytes, loop_is_direct] = GetParam();
    constexpr std::uint64_t kImageBytes = std::uint64_t{320} << 20;
    auto mount = testing::LoopMount::create(file_system, kImageBytes, sector_bytes, loop_is_direct);
    if (!mount && mount.error().code == ErrorCode::kUnimplemented) {
      GTEST_SKIP() << mount.error().text;
    }
    ASSERT_TRUE(mount.has_value()) << mount.error().text;
    mount_ = std::move(*mount);
  }

  Device open() {
    DeviceOptions options;
    options.directory = mount_->path();
    options.direct = DirectIo::kRequired;
    auto device = open_device(options);
    EXPECT_TRUE(device.has_value()) << device.error().text;
    return std::move(*device);
  }

  std::unique_ptr<testing::LoopMount> mount_;
};

TEST_P(LoopMountTest, DirectTransfersAtTheReportedAlignmentSucceed) {
  const auto& [file_system, sector_bytes, loop_is_direct] = GetParam();
  const auto device = open();
  const DirectoryFacts& info = device.directory->facts();
  EXPECT_EQ(info.file_system, file_system);
  EXPECT_TRUE(info.direct);
  EXPECT_EQ(info.alignment.offset, sector_bytes);

  const FileId file = make_file(*device.directory, "file", 64 * kTestBlock);
  const std::size_t unit = info.alignment.offset;
  const auto written = write_random(*device.queue, file, 3 * unit, 5 * unit, 1);
  EXPECT_EQ(read_back(*device.queue, file, 3 * unit, 5 * unit), written);
  sync_file(*device.queue, file);

  TestTransfer misaligned{Operation::kWrite, file, unit / 2, unit};
  run_one(*device.queue, misaligned.request());
  EXPECT_EQ(misaligned.request().sys_errno, EINVAL);
}

TEST_P(LoopMountTest, FullFileSystemIsAnErrorOfAllocate) {
  const auto device = open();
  const std::uint64_t free_bytes = device.directory->space()->free_bytes;
  EXPECT_LT(free_bytes, std::uint64_t{320} << 20);
  const FileId file = make_file(*device.directory, "file", free_bytes / 2);
  EXPECT_LE(device.directory->space()->free_bytes, free_bytes - free_bytes / 2);
  EXPECT_GE(device.directory->info(file)->allocated_bytes, free_bytes / 2);

  const Status refused = device.directory->allocate(file, free_bytes * 2);

  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().sys_errno(), ENOSPC);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, LoopMountTest,
                         ::testing::Combine(::testing::Values("ext4", "xfs"),
                                            ::testing::Values(512U, 4096U), ::testing::Bool()),
                         [](const auto& parameter) {
                           return std::get<0>(parameter.param) + "_" +
                                  std::to_string(std::get<1>(parameter.param)) +
                                  (std::get<2>(parameter.param) ? "_direct" : "_cached");
                         });

}  // namespace
}  // namespace larder::io
