#include "larder/io/direct_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "larder/base/unique_fd.h"
#include "tests/support/temporary_directory.h"

namespace larder::io {
namespace {

TEST(DirectIoTest, ProbingLeavesNothingBehindAndExplainsARefusal) {
  const testing::TemporaryDirectory directory;
  const UniqueFd fd{::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const DirectIoSupport support = probe_direct_io(fd.get());
  EXPECT_NE(support.is_supported, !support.why_not.empty());
  EXPECT_EQ(::unlinkat(AT_FDCWD, directory.path().c_str(), AT_REMOVEDIR), 0) << "not empty";
}

TEST(DirectIoTest, PlaceThatCannotBeWrittenToHasNone) {
  const UniqueFd fd{::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const DirectIoSupport support = probe_direct_io(fd.get());
  EXPECT_FALSE(support.is_supported);
  EXPECT_FALSE(support.why_not.empty());
}

TEST(DirectIoTest, FileSystemsHaveNamesOrNumbers) {
  EXPECT_EQ(file_system_name(0xEF53), "ext4");
  EXPECT_EQ(file_system_name(0x58465342), "xfs");
  EXPECT_EQ(file_system_name(0x12345678), "0x12345678");
}

}  // namespace
}  // namespace larder::io
