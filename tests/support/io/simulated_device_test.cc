// The simulated device's own promises: virtual time, faults of single requests, locks, space. What
// ends an owner is in simulated_disk_test.cc, what every device promises in
// device_contract_test.cc.

#include "tests/support/io/simulated_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>

#include "tests/support/io/device_test_support.h"

namespace larder::io {
namespace {

constexpr std::size_t kSector = SimulatedDisk::kSectorBytes;
constexpr std::uint64_t kSecond = 1'000'000'000;

class SimulatedDeviceTest : public ::testing::Test {
 protected:
  ManualClock clock_;
  SimulatedDisk disk_{SimulatedDiskOptions{}, clock_};
};

TEST_F(SimulatedDeviceTest, WaitMovesTheClockToTheNextEndOrTheDeadline) {
  disk_.faults().latency_min_ns = disk_.faults().latency_max_ns = 500;
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  const std::uint64_t start_ns = clock_.now_ns();
  device->wait(start_ns + 100);
  EXPECT_EQ(clock_.now_ns(), start_ns + 100);

  TestTransfer read{Operation::kRead, file, 0, kTestBlock};
  device->submit(read.request());
  EXPECT_EQ(disk_.next_event_ns(), kNever);  // Not handed over yet.
  device->wait(start_ns + 200);
  EXPECT_EQ(clock_.now_ns(), start_ns + 200);
  Request* done = nullptr;
  EXPECT_EQ(device->reap({&done, 1}), 0U);
  EXPECT_EQ(disk_.next_event_ns(), start_ns + 600);
  device->wait(kNever);
  EXPECT_EQ(clock_.now_ns(), start_ns + 600);
  EXPECT_EQ(device->reap({&done, 1}), 1U);
}

TEST_F(SimulatedDeviceTest, WaitForNothingReturnsAndIsCounted) {
  const auto device = disk_.mount();
  device->wait(kNever);
  EXPECT_EQ(disk_.counts().waits_for_nothing, 1U);
}

TEST_F(SimulatedDeviceTest, RequestsEndInAnyOrder) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", 64 * kTestBlock);
  std::deque<TestTransfer> reads;
  for (std::size_t i = 0; i < 64; ++i) {
    reads.emplace_back(Operation::kRead, file, i * kTestBlock, kTestBlock);
    device->submit(reads.back().request());
  }
  const auto done = reap_all(*device, 64);
  EXPECT_FALSE(std::ranges::is_sorted(done, {}, &Request::offset));
  EXPECT_GT(disk_.counts().reordered, 0U);
  EXPECT_EQ(disk_.counts().reads, 64U);
}

TEST_F(SimulatedDeviceTest, ErrorsReportAPrefixOfWholeSectors) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", 8 * kTestBlock);
  const auto before = write_random(*device, file, 0, 8 * kTestBlock, 1);
  disk_.faults().read_error = 1;
  disk_.faults().write_error = 1;
  bool has_partial_read = false;
  bool has_write_beyond_prefix = false;
  for (std::uint64_t i = 0; i < 50; ++i) {
    TestTransfer read{Operation::kRead, file, 0, 8 * kTestBlock};
    run_one(*device, read.request());
    ASSERT_EQ(read.request().sys_errno, EIO);
    const std::uint64_t moved = read.request().bytes_done;
    ASSERT_LT(moved, 8 * kTestBlock);
    ASSERT_EQ(moved % kSector, 0U);
    const auto image = disk_.read_image("file", 0, 8 * kTestBlock);
    ASSERT_TRUE(std::equal(read.bytes().begin(),
                           read.bytes().begin() + static_cast<std::ptrdiff_t>(moved),
                           image.begin()));
    has_partial_read = has_partial_read || moved > 0;

    TestTransfer write{Operation::kWrite, file, 0, 8 * kTestBlock};
    run_one(*device, write.filled(i + 2).request());
    ASSERT_EQ(write.request().sys_errno, EIO);
    const auto prefix = static_cast<std::ptrdiff_t>(write.request().bytes_done);
    const auto after = disk_.read_image("file", 0, 8 * kTestBlock);
    ASSERT_TRUE(std::equal(after.begin(), after.begin() + prefix, write.bytes().begin()));
    // Behind it each sector is the old or the new one.
    for (auto at = prefix; at < std::ptrdiff_t{8 * kTestBlock}; at += kSector) {
      const bool is_new =
          std::equal(after.begin() + at, after.begin() + at + kSector, write.bytes().begin() + at);
      const bool is_old =
          std::equal(after.begin() + at, after.begin() + at + kSector, image.begin() + at);
      ASSERT_TRUE(is_new || is_old);
      has_write_beyond_prefix = has_write_beyond_prefix || is_new;
    }
  }
  EXPECT_TRUE(has_partial_read);
  EXPECT_TRUE(has_write_beyond_prefix);
  EXPECT_EQ(disk_.counts().read_errors, 50U);
  EXPECT_EQ(disk_.counts().write_errors, 50U);
}

TEST_F(SimulatedDeviceTest, WhatIsLeftOfAFailedWriteLandsBeforeTheNextSyncEnds) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", 8 * kTestBlock);
  const auto before = write_random(*device, file, 0, 8 * kTestBlock, 1);
  disk_.faults().write_error = 1;
  disk_.faults().lands_after_error = 1;
  TestTransfer write{Operation::kWrite, file, 0, 8 * kTestBlock};
  run_one(*device, write.filled(2).request());
  ASSERT_EQ(write.request().sys_errno, EIO);
  const auto prefix = static_cast<std::ptrdiff_t>(write.request().bytes_done);
  const auto told = disk_.read_image("file", 0, 8 * kTestBlock);
  EXPECT_TRUE(std::equal(told.begin(), told.begin() + prefix, write.bytes().begin()));
  EXPECT_TRUE(std::equal(told.begin() + prefix, told.end(), before.begin() + prefix));

  sync_file(*device, file);
  EXPECT_TRUE(std::ranges::equal(disk_.read_image("file", 0, 8 * kTestBlock), write.bytes()));
  EXPECT_EQ(disk_.counts().landed_after_error, 1U);
  disk_.faults().write_error = 0;
  const auto after = write_random(*device, file, 0, 8 * kTestBlock, 3);
  device->wait(clock_.now_ns() + kSecond);
  EXPECT_EQ(disk_.read_image("file", 0, 8 * kTestBlock), after);
}

TEST_F(SimulatedDeviceTest, ShortTransfersAreHiddenFromTheOwnerButNotFromOthers) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", 16 * kTestBlock);
  const auto old_bytes = write_random(*device, file, 0, 16 * kTestBlock, 1);
  disk_.faults().short_transfer = 0.7;
  bool saw_half_a_write = false;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto before = disk_.read_image("file", 0, 16 * kTestBlock);
    TestTransfer write{Operation::kWrite, file, 0, 16 * kTestBlock, 4};
    TestTransfer read{Operation::kRead, file, 0, 16 * kTestBlock, 3};
    Request* const requests[] = {&write.filled(i + 2).request(), &read.request()};
    run_all(*device, requests);
    ASSERT_EQ(write.request().sys_errno, 0);
    ASSERT_EQ(write.request().bytes_done, 16 * kTestBlock);
    ASSERT_EQ(read.request().bytes_done, 16 * kTestBlock);
    ASSERT_TRUE(std::ranges::equal(disk_.read_image("file", 0, 16 * kTestBlock), write.bytes()));
    saw_half_a_write = saw_half_a_write || (!std::ranges::equal(read.bytes(), before) &&
                                            !std::ranges::equal(read.bytes(), write.bytes()));
  }
  EXPECT_TRUE(saw_half_a_write);
  EXPECT_GT(disk_.counts().short_transfers, 100U);
}

TEST_F(SimulatedDeviceTest, BytesOfAWriteAreTakenWhenItLands) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  TestTransfer write{Operation::kWrite, file, 0, kTestBlock};
  device->submit(write.filled(1).request());
  std::vector<Request*> none;
  device->reap(none);
  write.filled(2);  // A caller's bug that a real disk would show as well.
  reap_all(*device, 1);
  EXPECT_TRUE(std::ranges::equal(disk_.read_image("file", 0, kTestBlock), write.bytes()));
}

TEST_F(SimulatedDeviceTest, StalledRequestEndsAfterItsTime) {
  disk_.faults().stall = 1;
  disk_.faults().stall_ns = 30 * kSecond;
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  const std::uint64_t start_ns = clock_.now_ns();
  read_back(*device, file, 0, kTestBlock);
  EXPECT_EQ(clock_.now_ns(), start_ns + 30 * kSecond);
  EXPECT_EQ(disk_.counts().stalls, 1U);
}

TEST_F(SimulatedDeviceTest, EndlessStallEndsWhenItIsReleased) {
  disk_.faults().stall = 1;
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  TestTransfer sync{Operation::kSync, file, 0, 0};
  device->submit(sync.request());
  device->wait(clock_.now_ns() + 3600 * kSecond);
  Request* done = nullptr;
  ASSERT_EQ(device->reap({&done, 1}), 0U);

  disk_.release_stalls();

  EXPECT_EQ(reap_all(*device, 1).front(), &sync.request());
}

TEST_F(SimulatedDeviceTest, DestructorOfALivingDeviceLandsWhatTheDiskHas) {
  disk_.faults().stall = 1;
  auto device = disk_.mount();
  const FileId file = make_file(*device, "file", 2 * kTestBlock);
  TestTransfer handed_over{Operation::kWrite, file, 0, kTestBlock};
  TestTransfer waiting{Operation::kWrite, file, kTestBlock, kTestBlock};
  device->submit(handed_over.filled(1).request());
  std::vector<Request*> none;
  device->reap(none);
  device->submit(waiting.filled(2).request());
  const std::uint64_t now_ns = clock_.now_ns();

  device.reset();

  EXPECT_EQ(clock_.now_ns(), now_ns);
  EXPECT_TRUE(std::ranges::equal(disk_.read_image("file", 0, kTestBlock), handed_over.bytes()));
  EXPECT_EQ(disk_.read_image("file", kTestBlock, kTestBlock), std::vector<std::byte>(kTestBlock));
}

TEST_F(SimulatedDeviceTest, MisalignedTransfersAreRefused) {
  SimulatedDiskOptions options;
  options.alignment = {512, 4096};
  SimulatedDisk disk{options, clock_};
  const auto device = disk.mount();
  EXPECT_EQ(device->facts().alignment.memory, 512U);
  EXPECT_EQ(device->facts().alignment.offset, 4096U);
  EXPECT_TRUE(device->facts().direct);
  const FileId file = make_file(*device, "file", 4 * kTestBlock);

  TestTransfer offset{Operation::kRead, file, 512, kTestBlock};
  TestTransfer length{Operation::kRead, file, 0, 512};
  TestTransfer memory{Operation::kRead, file, 0, 2 * kTestBlock};
  iovec odd{memory.bytes().data() + 256, kTestBlock};
  memory.request().buffers = {&odd, 1};
  TestTransfer good{Operation::kRead, file, 0, 2 * kTestBlock};
  iovec even{good.bytes().data() + 512, kTestBlock};
  good.request().buffers = {&even, 1};
  Request* const requests[] = {&offset.request(), &length.request(), &memory.request(),
                               &good.request()};
  run_all(*device, requests);

  for (int i = 0; i < 3; ++i) EXPECT_EQ(requests[i]->sys_errno, EINVAL) << i;
  EXPECT_EQ(good.request().sys_errno, 0);
  EXPECT_EQ(disk.counts().alignment_errors, 3U);
}

TEST_F(SimulatedDeviceTest, CapacityIsABoundAndSpaceTellsTheTruth) {
  SimulatedDiskOptions options;
  options.capacity_bytes = 10 * kTestBlock;
  SimulatedDisk disk{options, clock_};
  const auto device = disk.mount();
  const FileId big = make_file(*device, "big", 8 * kTestBlock);
  EXPECT_EQ(device->space()->total_bytes, 10 * kTestBlock);
  EXPECT_EQ(device->space()->free_bytes, 2 * kTestBlock);

  const FileId small = device->open("small", OpenMode::kCreate).value();
  EXPECT_EQ(device->allocate(small, 3 * kTestBlock).error().sys_errno(), ENOSPC);
  TestTransfer write{Operation::kWrite, small, 0, 3 * kTestBlock};
  run_one(*device, write.request());
  EXPECT_EQ(write.request().sys_errno, ENOSPC);
  EXPECT_EQ(disk.counts().out_of_space, 2U);
  EXPECT_TRUE(device->allocate(small, 2 * kTestBlock).has_value());

  // A removed file's blocks are free when nobody has it open any more, and may then be used.
  ASSERT_TRUE(device->remove("big").has_value());
  EXPECT_EQ(device->space()->free_bytes, 0U);
  device->close(big);
  EXPECT_EQ(device->space()->free_bytes, 8 * kTestBlock);
  EXPECT_TRUE(device->allocate(small, 10 * kTestBlock).has_value());
}

TEST_F(SimulatedDeviceTest, ControlPlaneFaultsFireAndAreCounted) {
  const auto device = disk_.mount();
  const FileId file = make_file(*device, "file", kTestBlock);
  disk_.faults().allocate_error = 1;
  disk_.faults().sync_directory_error = 1;
  disk_.faults().sync_error = 1;

  EXPECT_EQ(device->allocate(file, 2 * kTestBlock).error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(device->sync_directory().error().sys_errno(), EIO);
  TestTransfer sync{Operation::kSync, file, 0, 0};
  run_one(*device, sync.request());
  EXPECT_EQ(sync.request().sys_errno, EIO);

  EXPECT_EQ(disk_.counts().allocate_errors, 1U);
  EXPECT_EQ(disk_.counts().sync_directory_errors, 1U);
  EXPECT_EQ(disk_.counts().sync_errors, 1U);
}

TEST_F(SimulatedDeviceTest, LockConflictTakesVirtualTimeAndIsCounted) {
  const auto owner = disk_.mount();
  const auto other = disk_.mount();
  ASSERT_TRUE(owner->lock(make_file(*owner, "lock", kTestBlock), kNever).has_value());
  const FileId theirs = other->open("lock", OpenMode::kExisting).value();
  const std::uint64_t until_ns = clock_.now_ns() + 5 * kSecond;
  EXPECT_EQ(other->lock(theirs, until_ns).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(clock_.now_ns(), until_ns);
  EXPECT_EQ(disk_.counts().lock_conflicts, 1U);
}

TEST_F(SimulatedDeviceTest, TwoDevicesOnOneDiskSeeEachOthersWritesInOrderOfTime) {
  disk_.faults().latency_min_ns = disk_.faults().latency_max_ns = 1000;
  const auto one = disk_.mount();
  const auto other = disk_.mount();
  const FileId mine = make_file(*one, "file", kTestBlock);
  const FileId theirs = other->open("file", OpenMode::kExisting).value();
  TestTransfer write{Operation::kWrite, mine, 0, kTestBlock};
  one->submit(write.filled(1).request());
  std::vector<Request*> none;
  one->reap(none);
  clock_.advance_ns(1);
  // Started later, so it ends after the write, although the writer does not look.
  const auto read = read_back(*other, theirs, 0, kTestBlock);
  EXPECT_TRUE(std::ranges::equal(read, write.bytes()));
  reap_all(*one, 1);
}

}  // namespace
}  // namespace larder::io
