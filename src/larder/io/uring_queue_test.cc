#include "larder/io/uring_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <thread>

#include "tests/support/forked_child.h"
#include "tests/support/io/device_test_support.h"

namespace larder::io {
namespace {

class UringQueueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = harness_.why_not()) GTEST_SKIP() << *why;
  }

  DeviceHarness harness_{{"uring", DirectIo::kIfPossible}};
};

TEST_F(UringQueueTest, DestructorInAnotherThreadWaitsForRequestsOfTheFirst) {
  for (int round = 0; round < 10; ++round) {
    auto device = harness_.open();
    const std::string name = "file" + std::to_string(round);
    const FileId file = make_file(*device.directory, name, 256 * kTestBlock);
    std::deque<TestTransfer> writes;
    std::thread driver{[&] {
      for (std::size_t i = 0; i < 32; ++i) {
        writes.emplace_back(Operation::kWrite, file, i * 8 * kTestBlock, 8 * kTestBlock).filled(i);
        device.queue->submit(writes.back().request());
      }
      std::vector<Request*> none;
      device.queue->reap(none);
    }};
    driver.join();
    ASSERT_TRUE(device.directory->lock(file, kNever).has_value());

    device = {};

    // The kernel had all of them, so all are back, and the buffers are not read any more.
    device = harness_.open();
    const FileId again = device.directory->open(name, OpenMode::kExisting).value();
    ASSERT_TRUE(device.directory->lock(again, 0).has_value());
    for (std::size_t i = 0; i < 32; ++i) {
      const auto read = read_back(*device.queue, again, i * 8 * kTestBlock, 8 * kTestBlock);
      ASSERT_TRUE(std::ranges::equal(read, writes[i].bytes())) << i;
    }
  }
}

TEST_F(UringQueueTest, DestructorWaitsForItsOwnRequestsOnlyNotForAForkedChild) {
  auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", 8 * kTestBlock);
  TestTransfer write{Operation::kWrite, file, 0, 8 * kTestBlock};
  std::thread driver{[&] {
    device.queue->submit(write.filled(1).request());
    std::vector<Request*> none;
    device.queue->reap(none);
  }};
  driver.join();
  const testing::ForkedChild child;  // Would keep the ring until it ends.
  device = {};
}

TEST_F(UringQueueTest, OneRequestsErrorIsItsOwn) {
  const auto device = harness_.open();
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  TestTransfer bad{Operation::kWrite, file, 0, kTestBlock};
  TestTransfer good{Operation::kWrite, file, 0, kTestBlock};
  bad.request().offset = std::uint64_t{1} << 63;
  Request* const requests[] = {&bad.filled(1).request(), &good.filled(2).request()};

  run_all(*device.queue, requests);

  EXPECT_EQ(bad.request().sys_errno, EINVAL);
  EXPECT_EQ(bad.request().bytes_done, 0U);
  EXPECT_EQ(good.request().sys_errno, 0);
  EXPECT_EQ(good.request().bytes_done, kTestBlock);
}

TEST_F(UringQueueTest, WakeUpsAmongTransfersAreNeitherLostNorRequests) {
  DeviceOptions options;
  options.depth = 2;
  const auto device = harness_.open(options);
  const FileId file = make_file(*device.directory, "file", kTestBlock);
  for (int round = 0; round < 100; ++round) {
    TestTransfer one{Operation::kRead, file, 0, kTestBlock};
    TestTransfer two{Operation::kRead, file, 0, kTestBlock};
    TestTransfer three{Operation::kRead, file, 0, kTestBlock};
    device.queue->wake();
    Request* const requests[] = {&one.request(), &two.request(), &three.request()};
    run_all(*device.queue, requests);
  }
}

}  // namespace
}  // namespace larder::io
