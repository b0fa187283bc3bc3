// What happens to a real file system while a store runs on it: it fills up, it gives up, its
// directory goes away.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "larder/base/unique_fd.h"
#include "tests/faults/fault_fixture.h"
#include "tests/support/temporary_directory.h"

namespace larder::faults {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kValueBytes = 262'144;
constexpr std::uint64_t kSegmentBytes = 8 * kMiB;
constexpr int kPerSegment = 30;
constexpr std::uint64_t kDiskBytes = 400 * kMiB;
constexpr std::uint64_t kMinFree = 64 * kMiB;

class DiskFaultTest : public ::testing::Test {
 protected:
  void make_disk(const testing::LoopMountOptions& options) {
    set_log_level(LogLevel::kOff);
    auto mount = testing::LoopMount::create(options);
    LARDER_SKIP_IF_IMPOSSIBLE(mount);
    mount_ = std::move(*mount);
    store_path_ = mount_->path() + "/store";
  }
  static testing::LoopMountOptions disk_of(const std::string& file_system) {
    testing::LoopMountOptions options;
    options.file_system = file_system;
    options.bytes = kDiskBytes;
    if (file_system == "ext4") options.make_arguments = {"-m", "0"};  // Nothing kept for root.
    return options;
  }
  /// With a capacity that the disk has no room for.
  void open(std::uint64_t min_free = 0, const std::string& more = "") {
    store_ = open_store(spec(min_free) + more, kValueBytes);
    ASSERT_NE(store_, nullptr);
  }
  std::string spec(std::uint64_t min_free = 0) const {
    return "log:" + store_path_ +
           "?capacity=4GiB&segment=8MiB&max_value=1MiB&min_free=" + std::to_string(min_free);
  }
  /// Done, or refused with a sentence that says why.
  bool set(int number) {
    const Operation& stored = store_->set(number);
    EXPECT_TRUE(stored.is_done() || stored.has_failed());
    if (stored.has_failed()) {
      EXPECT_NE(stored.error().find("the store was refused"), std::string::npos) << stored.error();
    }
    return stored.is_done();
  }
  void fill(int from, int to) {
    for (int i = from; i < to; ++i) ASSERT_TRUE(set(i)) << i << ": " << store_->reasons();
  }
  int count_hits(int from, int to) {
    int hits = 0;
    for (int i = from; i < to; ++i) hits += store_->get(i).is_hit() ? 1 : 0;
    return hits;
  }
  std::uint64_t free_bytes() const {
    struct statvfs status{};
    EXPECT_EQ(::statvfs(mount_->path().c_str(), &status), 0);
    return std::uint64_t{status.f_bavail} * status.f_frsize;
  }
  std::uint64_t used() const { return store_->report().bytes_used; }
  void expect_reason(const std::string& part) const {
    EXPECT_NE(store_->reasons().find(part), std::string::npos)
        << "'" << part << "' in: " << store_->reasons();
  }
  void until_reason(const std::string& part) {
    store_->until("degraded, as " + part, [&] {
      return store_->health() == Health::kDegraded &&
             store_->reasons().find(part) != std::string::npos;
    });
  }

  std::unique_ptr<testing::LoopMount> mount_;
  std::string store_path_;
  std::unique_ptr<FaultClient> store_;  // Goes first.
};

// --- Full ---------------------------------------------------------------------------------------

class FullDiskTest : public DiskFaultTest, public ::testing::WithParamInterface<std::string> {
 protected:
  std::string hog() const { return mount_->path() + "/hog"; }
  /// Somebody else's file, which leaves about so much.
  void leave(std::uint64_t bytes) const {
    const UniqueFd fd{::open(hog().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    ASSERT_TRUE(static_cast<bool>(fd));
    off_t taken = 0;
    for (std::uint64_t step = 16 * kMiB; step >= 4096; step /= 2) {
      while (free_bytes() > bytes + step &&
             ::fallocate(fd.get(), 0, taken, static_cast<off_t>(step)) == 0) {
        taken += static_cast<off_t>(step);
      }
    }
  }
};

TEST_P(FullDiskTest, TheFloorOfFreeSpaceIsKeptAndTheRingGoesRoundInWhatThereIs) {
  make_disk(disk_of(GetParam()));
  if (IsSkipped() || HasFailure()) return;
  open(kMinFree);
  std::uint64_t lowest = free_bytes();
  int done = 0;
  constexpr int kStores = 3 * 40 * kPerSegment;  // Nearly three times what the disk holds.
  for (int i = 0; i < kStores; ++i) {
    done += set(i) ? 1 : 0;
    lowest = std::min(lowest, free_bytes());
  }
  EXPECT_GE(lowest, kMinFree);
  EXPECT_GT(done, kStores / 2);
  store_->until_health(Health::kDegraded);
  expect_reason("too full to grow the store to its capacity");
  EXPECT_GT(count_hits(kStores - 10 * kPerSegment, kStores), 4 * kPerSegment);
}

TEST_P(FullDiskTest, WhatSomebodyElseTakesIsGivenBackAndTakenAgainLater) {
  make_disk(disk_of(GetParam()));
  if (IsSkipped() || HasFailure()) return;
  open(kMinFree);
  fill(0, 10 * kPerSegment);
  const std::uint64_t used_before = used();
  leave(kMinFree / 2);
  int next = 1000;
  store_->until(
      "the disk is too full", [&] { return store_->health() == Health::kDegraded; },
      [&] { set(next++); });
  expect_reason("too full to grow the store to its capacity");
  for (int i = 0; i < 10 * kPerSegment; ++i) set(next++);
  EXPECT_LE(used(), used_before + 2 * kSegmentBytes);
  EXPECT_GT(count_hits(next - 4 * kPerSegment, next), kPerSegment);
  ASSERT_EQ(::unlink(hog().c_str()), 0);
  store_->until(
      "it grows again", [&] { return used() > used_before + 4 * kSegmentBytes; },
      [&] { set(next++); });
}

TEST_P(FullDiskTest, ADiskThatIsFullToTheLastBlockRefusesFilesAndNeverAWrite) {
  make_disk(disk_of(GetParam()));
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 10 * kPerSegment);
  leave(0);
  int next = 1000;
  for (int i = 0; i < 20 * kPerSegment; ++i) set(next++);
  EXPECT_EQ(store_->counter("io_errors_total"), 0U) << "segments have their blocks";
  store_->until_health(Health::kDegraded, [&] { set(next++); });
  EXPECT_GT(count_hits(next - 4 * kPerSegment, next), kPerSegment);
  const std::uint64_t used_before = used();
  ASSERT_EQ(::unlink(hog().c_str()), 0);
  store_->until(
      "it grows again", [&] { return used() > used_before + 4 * kSegmentBytes; },
      [&] { set(next++); });
}

TEST_P(FullDiskTest, AStoreThatIsThereOpensOnAFullDiskAndServesAndStores) {
  make_disk(disk_of(GetParam()));
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 10 * kPerSegment);
  store_.reset();
  leave(0);
  open();
  // Opening may have emptied two segments to go on in.
  EXPECT_GE(count_hits(0, 10 * kPerSegment), 7 * kPerSegment);
  int next = 1000;
  for (int i = 0; i < 20 * kPerSegment; ++i) set(next++);
  EXPECT_EQ(store_->counter("io_errors_total"), 0U);
  EXPECT_GT(count_hits(next - 4 * kPerSegment, next), kPerSegment);
}

TEST_P(FullDiskTest, AStoreCannotBeMadeOnAFullDiskAndCanOnceThereIsRoom) {
  make_disk(disk_of(GetParam()));
  if (IsSkipped() || HasFailure()) return;
  ASSERT_EQ(::mkdir(store_path_.c_str(), 0700), 0);
  leave(0);
  const auto refused = builtin_registry().open(spec());
  ASSERT_FALSE(refused.has_value());
  for (const std::string& part : {store_path_, std::string{"No space left on device"}}) {
    EXPECT_NE(refused.error().text.find(part), std::string::npos) << refused.error().text;
  }
  ASSERT_EQ(::unlink(hog().c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(open());
  fill(0, 3 * kPerSegment);
  EXPECT_EQ(count_hits(0, 3 * kPerSegment), 3 * kPerSegment);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, FullDiskTest, ::testing::Values("ext4", "xfs"),
                         [](const auto& parameter) { return parameter.param; });

/// Of the file systems here none has quotas of the kernel's. A quota that says EDQUOT:
/// FileSystemFaultTest.AQuotaThatIsUsedUpLeavesARingOfWhatThereIs.
TEST_F(DiskFaultTest, AFileSystemThatIsMadeLargerIsUsedWithoutARestart) {
  set_log_level(LogLevel::kOff);
  if (::geteuid() != 0) GTEST_SKIP() << "SKIPPED (needs root)";
  const testing::TemporaryDirectory directory;
  const auto mount = [&](unsigned long flags, const char* size) {
    return ::mount("larder-test", directory.path().c_str(), "tmpfs", flags, size);
  };
  ASSERT_EQ(mount(0, "size=80m"), 0) << errno;
  store_path_ = directory.path() + "/store";
  open(0, "&direct=no");
  EXPECT_EQ(store_->health(), Health::kHealthy) << store_->reasons();
  int next = 0;
  for (int i = 0; i < 20 * kPerSegment; ++i) set(next++);
  EXPECT_LE(used(), 80 * kMiB);
  EXPECT_EQ(store_->counter("io_errors_total"), 0U);
  store_->until_health(Health::kDegraded, [&] { set(next++); });
  expect_reason("too full to grow the store to its capacity");
  EXPECT_GT(count_hits(next - 8 * kPerSegment, next), 4 * kPerSegment);
  ASSERT_EQ(mount(MS_REMOUNT, "size=200m"), 0) << errno;
  store_->until("it grows again", [&] { return used() > 120 * kMiB; }, [&] { set(next++); });
  store_.reset();
  EXPECT_EQ(::umount2(directory.path().c_str(), MNT_DETACH), 0);
}

// --- Blocks that a copy has too -----------------------------------------------------------------

/// A copy by reference (cp --reflink, a snapshot): the segments are allocated, and to overwrite
/// them takes new blocks all the same.
class SharedBlocksTest : public DiskFaultTest {
 protected:
  static constexpr int kValues = 32 * kPerSegment;  // More than the ring holds.

  void open_ring(std::uint64_t min_free) {
    store_ = open_store(
        "log:" + store_path_ +
            "?capacity=256MiB&segment=8MiB&max_value=1MiB&min_free=" + std::to_string(min_free),
        kValueBytes);
    ASSERT_NE(store_, nullptr);
  }
  void copy() const {
    const std::string to = mount_->path() + "/copy";
    fs::create_directory(to);
    for (const auto& entry : fs::directory_iterator{store_path_}) {
      const UniqueFd from_fd{::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC)};
      const std::string name = to + "/" + entry.path().filename().string();
      const UniqueFd to_fd{::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
      ASSERT_EQ(::ioctl(to_fd.get(), FICLONE, from_fd.get()), 0) << errno;
    }
  }
  void remove_copy() const { fs::remove_all(mount_->path() + "/copy"); }
  void make_full_store() {
    make_disk(disk_of("xfs"));
    if (IsSkipped() || HasFailure()) return;
    open_ring(0);
    fill(0, kValues);
    store_.reset();
  }
  std::string hog() const { return mount_->path() + "/hog"; }
  void take_all() const {
    std::ofstream out{hog(), std::ios::binary};
    const std::string block(1U << 20, 'x');
    while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
    out.clear();
    while (out.write(block.data(), 4096).flush()) {
    }
  }
};

TEST_F(SharedBlocksTest, MinFreeHoldsStoresAreRefusedAndLoadsGoOn) {
  make_full_store();
  if (IsSkipped() || HasFailure()) return;
  copy();
  open_ring(kMinFree);
  std::uint64_t lowest = free_bytes();
  int next = kValues;
  int refused = 0;
  for (int i = 0; i < kValues; ++i) {
    refused += set(next++) ? 0 : 1;
    lowest = std::min(lowest, free_bytes());
  }
  EXPECT_GE(lowest, kMinFree);
  EXPECT_GT(refused, 0);
  expect_reason("share their blocks with a copy");
  EXPECT_EQ(store_->counter("io_errors_total"), 0U);
  EXPECT_EQ(count_hits(kValues - 5 * kPerSegment, kValues), 5 * kPerSegment);
  remove_copy();
  store_->until("stores work again", [&] { return set(next++); });
}

TEST_F(SharedBlocksTest, ADiskWithoutABlockRefusesStoresAndServesEveryLoad) {
  make_full_store();
  if (IsSkipped() || HasFailure()) return;
  open_ring(0);
  copy();  // Under the running store: what it has ready is shared too.
  take_all();
  int next = kValues;
  int refused = 0;
  for (int i = 0; i < 10 * kPerSegment; ++i) refused += store_->set(next++).is_done() ? 0 : 1;
  EXPECT_GT(refused, 5 * kPerSegment);
  EXPECT_NE(store_->health(), Health::kDown);
  EXPECT_EQ(count_hits(kValues - 5 * kPerSegment, kValues), 5 * kPerSegment);
  ASSERT_EQ(::unlink(hog().c_str()), 0);
  remove_copy();
  store_->until("stores work again", [&] { return store_->set(next++).is_done(); });
}

TEST_F(SharedBlocksTest, AStoreOpensWithoutRoomForItsSuperblockAndGoesOnWithSome) {
  make_full_store();
  if (IsSkipped() || HasFailure()) return;
  copy();
  take_all();
  open_ring(0);
  expect_reason("the superblock cannot be written");
  EXPECT_EQ(count_hits(kValues - 5 * kPerSegment, kValues), 5 * kPerSegment);
  EXPECT_TRUE(store_->set(kValues).has_failed());
  store_.reset();  // It changed nothing.
  open_ring(0);
  EXPECT_EQ(count_hits(kValues - 5 * kPerSegment, kValues), 5 * kPerSegment);
  ASSERT_EQ(::unlink(hog().c_str()), 0);
  remove_copy();
  int next = kValues;
  store_->until("stores work", [&] { return store_->set(next++).is_done(); });
  store_.reset();
  open_ring(0);
  EXPECT_TRUE(store_->get(next - 1).is_hit());
}

// --- Given up -----------------------------------------------------------------------------------

/// A file system that has found an error in itself: ext4 turns read-only, xfs shuts down.
class GivenUpTest : public DiskFaultTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void give_up() const {
    if (GetParam() == "ext4") {
      std::ofstream{"/sys/fs/ext4/" + fs::path{mount_->device()}.filename().string() +
                    "/trigger_fs_error"}
          << "1";
      return;
    }
    const UniqueFd root{::open(mount_->path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    std::uint32_t without_flush = 2;
    EXPECT_EQ(::ioctl(root.get(), _IOR('X', 125, std::uint32_t), &without_flush), 0) << errno;
  }
  void run(const std::string& sync, int kept) {
    auto options = disk_of(GetParam());
    if (GetParam() == "ext4") options.mount_options = "errors=remount-ro";
    make_disk(options);
    if (IsSkipped() || HasFailure()) return;
    open(0, "&sync=" + sync);
    fill(0, 6 * kPerSegment);
    // A person cannot do it under a running store.
    EXPECT_EQ(::mount(nullptr, mount_->path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr),
              -1);
    EXPECT_EQ(errno, EBUSY);
    EXPECT_EQ(store_->health(), Health::kHealthy);
    give_up();
    int next = 1000;
    store_->until_health(Health::kDown, [&] { store_->set(next++); });
    expect_reason(GetParam() == "ext4" ? "Read-only file system" : "Input/output error");
    EXPECT_TRUE(store_->set(next).has_failed());
    EXPECT_TRUE(store_->get(0).is_miss());
    store_.reset();  // It ends although it can write nothing more.
    const SetupStatus mounted = mount_->mount_again();
    ASSERT_TRUE(mounted.has_value()) << mounted.error().text;
    open();
    EXPECT_EQ(store_->health(), Health::kHealthy) << store_->reasons();
    EXPECT_EQ(count_hits(0, kept), kept);
    fill(2000, 2000 + kPerSegment);
  }
};

TEST_P(GivenUpTest, KeepsWhatWasSealed) {
  run("none", 4 * kPerSegment);  // As after a power cut.
}

TEST_P(GivenUpTest, KeepsEverythingThatWasAcknowledgedAfterASync) {
  run("batch", 6 * kPerSegment);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, GivenUpTest, ::testing::Values("ext4", "xfs"),
                         [](const auto& parameter) { return parameter.param; });

// --- Gone ---------------------------------------------------------------------------------------

TEST_F(DiskFaultTest, FilesThatWereRemovedUnderAStoreAreReportedAndServedToTheEnd) {
  make_disk(disk_of("ext4"));
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 6 * kPerSegment);
  fs::remove_all(store_path_);
  until_reason("the store's files were removed");
  // As it may add no files, it empties a few segments to go on in.
  EXPECT_GE(count_hits(0, 6 * kPerSegment), 2 * kPerSegment);
  for (int i = 1000; i < 1000 + 10 * kPerSegment; ++i) set(i);
  EXPECT_FALSE(fs::exists(store_path_));
  store_.reset();
  open();  // Starts anew.
  EXPECT_EQ(store_->health(), Health::kHealthy) << store_->reasons();
  EXPECT_TRUE(store_->get(0).is_miss());
  fill(0, 3 * kPerSegment);
  EXPECT_EQ(count_hits(0, 3 * kPerSegment), 3 * kPerSegment);
}

TEST_F(DiskFaultTest, ASuperblockThatIsMovedAwayAndBackEndsWhatItBegan) {
  make_disk(disk_of("ext4"));
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 3 * kPerSegment);
  fs::rename(store_path_ + "/superblock", store_path_ + "/kept");
  until_reason("the store's files were removed");
  fs::rename(store_path_ + "/kept", store_path_ + "/superblock");
  store_->until_health(Health::kHealthy);
  fill(1000, 1000 + 6 * kPerSegment);
}

TEST_F(DiskFaultTest, ADirectoryThatIsMovedAwayAndBackCostsNothing) {
  make_disk(disk_of("ext4"));
  if (IsSkipped() || HasFailure()) return;
  open();
  fill(0, 3 * kPerSegment);
  fs::rename(store_path_, store_path_ + "-away");
  fill(1000, 1000 + 3 * kPerSegment);  // Its files go with it.
  fs::rename(store_path_ + "-away", store_path_);
  fill(2000, 2000 + 3 * kPerSegment);
  EXPECT_NE(store_->health(), Health::kDown);
  store_.reset();
  open();
  EXPECT_EQ(count_hits(0, 3 * kPerSegment), 3 * kPerSegment);
  EXPECT_EQ(count_hits(1000, 1000 + 3 * kPerSegment), 3 * kPerSegment);
  EXPECT_EQ(count_hits(2000, 2000 + 3 * kPerSegment), 3 * kPerSegment);
}

}  // namespace
}  // namespace larder::faults
