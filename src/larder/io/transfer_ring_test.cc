#include "larder/io/transfer_ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/base/unique_fd.h"
#include "larder/io/transfer.h"
#include "larder/io/uring_probe.h"
#include "tests/support/temporary_directory.h"

namespace larder::io {
namespace {

using Bytes = std::vector<std::byte>;

class TransferRingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto choice = choose_ring();
    ASSERT_TRUE(choice.has_value()) << choice.error().text;
    if (!choice->has_ring) GTEST_SKIP() << "SKIPPED (needs io_uring)";
    auto made = TransferRing::create({.depth = 4});
    ASSERT_TRUE(made.has_value()) << made.error().to_string();
    ring = std::move(*made);
  }
  UniqueFd file(int number, int flags = O_RDWR | O_CREAT) const {
    const std::string path = directory.path() + "/" + std::to_string(number);
    return UniqueFd{::open(path.c_str(), flags | O_CLOEXEC, 0600)};
  }
  /// Waits until `count` requests came back, each once.
  void wait_for(std::size_t count) {
    back.clear();
    std::array<Request*, 3> done{};
    while (back.size() < count) {
      ring->wait(kNever);
      const std::size_t taken = ring->reap(done);
      for (std::size_t i = 0; i < taken; ++i) EXPECT_TRUE(back.insert(done.at(i)).second);
    }
    EXPECT_EQ(ring->reap(done), 0U);
  }

  testing::TemporaryDirectory directory;
  std::unique_ptr<TransferRing> ring;
  std::set<Request*> back;
};

TEST_F(TransferRingTest, MoreTransfersThanItsDepthAllEnd) {
  constexpr std::size_t kFiles = 50;
  Random random{5};
  std::vector<UniqueFd> files;
  std::vector<Bytes> values(kFiles);
  std::vector<std::array<iovec, 2>> buffers(kFiles);
  std::vector<Request> requests(kFiles);
  const auto submit_all = [&](Operation operation) {
    for (std::size_t i = 0; i < kFiles; ++i) {
      const std::size_t half = values[i].size() / 2;
      buffers[i] = {iovec{values[i].data(), half},
                    iovec{values[i].data() + half, values[i].size() - half}};
      requests[i] = {};
      requests[i].operation = operation;
      requests[i].file = static_cast<FileId>(files[i].get());
      requests[i].buffers = buffers[i];
      ring->submit(requests[i]);
    }
    wait_for(kFiles);
  };
  for (std::size_t i = 0; i < kFiles; ++i) {
    files.push_back(file(static_cast<int>(i)));
    values[i].resize(1 + random.below(200'000));
    random.fill(values[i]);
  }
  submit_all(Operation::kWrite);
  const std::vector<Bytes> written = values;
  for (Bytes& value : values) value.assign(value.size(), std::byte{0});
  submit_all(Operation::kRead);
  EXPECT_EQ(values, written);
  for (const Request& request : requests) EXPECT_EQ(request.sys_errno, 0);
}

TEST_F(TransferRingTest, AnEndOfFileAndAnErrorAreToldEachByItself) {
  const UniqueFd good = file(1);
  ASSERT_EQ(::pwrite(good.get(), "12345", 5, 0), 5);
  const UniqueFd write_only = file(1, O_WRONLY);
  Bytes memory(10);
  std::array<iovec, 2> buffers{iovec{memory.data(), 10}, iovec{memory.data(), 10}};
  std::array<Request, 2> requests;
  for (std::size_t i = 0; i < 2; ++i) {
    requests.at(i).file = static_cast<FileId>(i == 0 ? good.get() : write_only.get());
    requests.at(i).buffers = {&buffers.at(i), 1};
    ring->submit(requests.at(i));
  }
  wait_for(2);
  EXPECT_EQ(requests[0].bytes_done, 5U);
  EXPECT_EQ(requests[0].sys_errno, 0);
  EXPECT_EQ(requests[1].sys_errno, EBADF);
}

TEST_F(TransferRingTest, WithoutAnythingToMoveItEndsAtOnce) {
  const UniqueFd empty = file(1);
  std::byte byte{};
  iovec nothing{&byte, 0};
  Request request;
  request.file = static_cast<FileId>(empty.get());
  request.buffers = {&nothing, 1};
  ring->submit(request);
  std::array<Request*, 1> done{};
  EXPECT_EQ(ring->reap(done), 1U);
  EXPECT_EQ(done[0], &request);
}

TEST_F(TransferRingTest, TheDestructorWaitsForTheKernel) {
  const UniqueFd good = file(1);
  ASSERT_EQ(::pwrite(good.get(), "12345", 5, 0), 5);
  Bytes memory(5);
  iovec buffer{memory.data(), 5};
  Request request;
  request.file = static_cast<FileId>(good.get());
  request.buffers = {&buffer, 1};
  ring->submit(request);
  std::array<Request*, 1> none{};
  ring->reap(std::span{none}.first(0));  // Into the kernel's hands.
  ring.reset();
  // From here on the memory is not written any more; the sanitizer builds watch over that.
  memory = {};
}

TEST(TransferHereTest, ShortReadsEndWithTheFile) {
  const testing::TemporaryDirectory directory;
  const UniqueFd fd{
      ::open((directory.path() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  Bytes value(100'000, std::byte{7});
  iovec buffer{value.data(), value.size()};
  Request request;
  request.operation = Operation::kWrite;
  request.file = static_cast<FileId>(fd.get());
  request.buffers = {&buffer, 1};
  transfer_here(request, Alignment{});
  EXPECT_EQ(request.bytes_done, 100'000U);
  Bytes longer(200'000);
  buffer = {longer.data(), longer.size()};
  request.operation = Operation::kRead;
  request.buffers = {&buffer, 1};
  transfer_here(request, Alignment{});
  EXPECT_EQ(request.bytes_done, 100'000U);
  EXPECT_EQ(request.sys_errno, 0);
}

}  // namespace
}  // namespace larder::io
