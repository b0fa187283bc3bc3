#include "larder/base/system_files.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(DiskStatsTest, ReadsTheLineOfTheDevice) {
  constexpr const char* kText =
      " 254       0 vda 100 5 2000 30 40 6 800 90 0 50 120 0 0 0 0 0 0\n"
      " 254       1 vda1 10 5 200 3 4 6 80 9 0 5 12 0 0 0 0\n"
      "   7       0 loop0 0 0 x 0 0 0 0 0 0 0 0\n";
  const auto disk = parse_disk_stats(kText, 254, 0);
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->bytes_read, 2000U * 512);
  EXPECT_EQ(disk->bytes_written, 800U * 512);
  EXPECT_EQ(parse_disk_stats(kText, 254, 1)->bytes_read, 200U * 512);
  EXPECT_FALSE(parse_disk_stats(kText, 254, 2));
  EXPECT_FALSE(parse_disk_stats(kText, 7, 0)) << "a line that is not numbers";
  EXPECT_FALSE(parse_disk_stats("254 0 vda 1 2\n", 254, 0)) << "a short line";
}

TEST(MountInfoTest, TheDeepestMountThatCoversThePathWins) {
  constexpr const char* kText =
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
      "30 22 0:25 / /data rw master:2 propagate_from:1 - btrfs /dev/sdb1 rw,ssd\n"
      "31 22 0:26 / /my\\040disk ro - tmpfs none rw\n"
      "broken line\n";
  EXPECT_EQ(parse_mount_info(kText, "/data/kv")->file_system, "btrfs");
  EXPECT_EQ(parse_mount_info(kText, "/data/kv")->source, "/dev/sdb1");
  EXPECT_EQ(parse_mount_info(kText, "/data2")->file_system, "ext4");
  EXPECT_EQ(parse_mount_info(kText, "/my disk/x")->options, "ro,rw");
  EXPECT_EQ(parse_mount_info(kText, "/")->device_major, 254U);
  EXPECT_FALSE(parse_mount_info("", "/"));
}

TEST(MountInfoTest, FindsWhatAProcessSees) {
  const auto mount = mount_of("/proc/self");
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->file_system, "proc");
  EXPECT_FALSE(mount_of("/no such directory"));
}

TEST(HugePagesTest, TheMountDecidesUnlessItIsOverruled) {
  const auto of = [](const char* options, const char* setting) {
    Mount mount;
    mount.options = options;
    return huge_pages_of_tmpfs(mount, setting);
  };
  constexpr const char* kNever = "always within_size advise [never] deny force\n";
  constexpr const char* kAlways = "[always] within_size advise never deny force\n";
  EXPECT_EQ(of("rw,relatime,rw,size=24684096k", kNever), "never");
  EXPECT_EQ(of("rw,relatime,rw,size=24684096k", kAlways), "never") << "that is for memfd_create()";
  EXPECT_EQ(of("rw,rw,size=1k,huge=advise,nr_inodes=2", kNever), "advise");
  EXPECT_EQ(of("huge=always,huge=within_size", kNever), "within_size");
  EXPECT_EQ(of("rw,hugepages=always", kNever), "never");
  EXPECT_EQ(of("rw,huge=always", "always within_size advise never [deny] force\n"), "never");
  EXPECT_EQ(of("rw", "always within_size advise never deny [force]\n"), "always");
  EXPECT_EQ(huge_pages_of_tmpfs("/proc"), "") << "no tmpfs";
}

}  // namespace
}  // namespace larder
