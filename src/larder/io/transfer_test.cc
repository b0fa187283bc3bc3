#include "larder/io/transfer.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "larder/base/random.h"

namespace larder::io {
namespace {

constexpr Alignment kBuffered = {1, 1};
constexpr Alignment kDirect = {512, 512};

class TransferTest : public ::testing::Test {
 protected:
  Request& started(Operation operation) {
    request_.operation = operation;
    request_.offset = 4096;
    request_.buffers = pieces_;
    request_.bytes_done = 77;
    request_.sys_errno = EIO;
    EXPECT_EQ(begin_transfer(request_), TransferStep::kContinue);
    return request_;
  }

  std::array<std::byte, 3072> memory_{};
  std::array<iovec, 3> pieces_{
      {{memory_.data(), 1024}, {memory_.data() + 1024, 512}, {memory_.data() + 1536, 1536}}};
  Request request_;
};

TEST_F(TransferTest, WholeTransferEnds) {
  Request& request = started(Operation::kWrite);
  EXPECT_EQ(advance_transfer(request, 3072, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.bytes_done, 3072U);
  EXPECT_EQ(request.sys_errno, 0);
}

TEST_F(TransferTest, ShortTransferGoesOnWhereItStopped) {
  Request& request = started(Operation::kRead);
  EXPECT_EQ(advance_transfer(request, 1200, kBuffered), TransferStep::kContinue);
  ASSERT_EQ(remaining_buffers(request).size(), 2U);
  EXPECT_EQ(remaining_buffers(request)[0].iov_base, memory_.data() + 1200);
  EXPECT_EQ(remaining_buffers(request)[0].iov_len, 336U);
  EXPECT_EQ(request.bytes_done, 1200U);

  EXPECT_EQ(advance_transfer(request, 336, kBuffered), TransferStep::kContinue);
  ASSERT_EQ(remaining_buffers(request).size(), 1U);
  EXPECT_EQ(remaining_buffers(request)[0].iov_base, memory_.data() + 1536);

  EXPECT_EQ(advance_transfer(request, 1536, kBuffered), TransferStep::kEnded);
  EXPECT_EQ(request.bytes_done, 3072U);
  EXPECT_EQ(request.sys_errno, 0);
}

TEST_F(TransferTest, AnySequenceOfShortTransfersCoversEachByteOnce) {
  Random random{7};
  for (int round = 0; round < 200; ++round) {
    pieces_ = {
        {{memory_.data(), 1024}, {memory_.data() + 1024, 512}, {memory_.data() + 1536, 1536}}};
    Request& request = started(Operation::kWrite);
    std::uint64_t covered = 0;
    for (TransferStep step = TransferStep::kContinue; step == TransferStep::kContinue;) {
      const auto left = remaining_buffers(request);
      ASSERT_EQ(left[0].iov_base, memory_.data() + covered);
      const std::uint64_t bytes = 1 + random.below(3072 - covered);
      step = advance_transfer(request, static_cast<std::int64_t>(bytes), kBuffered);
      covered += bytes;
    }
    EXPECT_EQ(covered, 3072U);
    EXPECT_EQ(request.bytes_done, 3072U);
  }
}

TEST_F(TransferTest, InterruptedTransferIsTriedAgain) {
  Request& request = started(Operation::kRead);
  EXPECT_EQ(advance_transfer(request, -EINTR, kDirect), TransferStep::kContinue);
  EXPECT_EQ(advance_transfer(request, -EAGAIN, kDirect), TransferStep::kContinue);
  EXPECT_EQ(request.bytes_done, 0U);
  EXPECT_EQ(remaining_buffers(request)[0].iov_len, 1024U);
}

TEST_F(TransferTest, ErrorKeepsThePrefixThatWasMoved) {
  Request& request = started(Operation::kWrite);
  EXPECT_EQ(advance_transfer(request, 512, kDirect), TransferStep::kContinue);
  EXPECT_EQ(advance_transfer(request, -ENOSPC, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.bytes_done, 512U);
  EXPECT_EQ(request.sys_errno, ENOSPC);
}

TEST_F(TransferTest, NothingReadIsTheEndOfTheFile) {
  Request& request = started(Operation::kRead);
  EXPECT_EQ(advance_transfer(request, 0, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.sys_errno, 0);
}

TEST_F(TransferTest, NothingWrittenIsAnError) {
  Request& request = started(Operation::kWrite);
  EXPECT_EQ(advance_transfer(request, 0, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.sys_errno, EIO);
}

TEST_F(TransferTest, UnalignedEndOfADirectReadIsTheEndOfTheFile) {
  Request& request = started(Operation::kRead);
  EXPECT_EQ(advance_transfer(request, 700, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.bytes_done, 700U);
  EXPECT_EQ(request.sys_errno, 0);
}

TEST_F(TransferTest, UnalignedEndOfADirectWriteIsAnError) {
  Request& request = started(Operation::kWrite);
  EXPECT_EQ(advance_transfer(request, 700, kDirect), TransferStep::kEnded);
  EXPECT_EQ(request.bytes_done, 700U);
  EXPECT_EQ(request.sys_errno, EIO);
}

TEST_F(TransferTest, SyncEndsWithZeroOrAnError) {
  Request sync;
  sync.operation = Operation::kSync;
  EXPECT_EQ(begin_transfer(sync), TransferStep::kContinue);
  EXPECT_EQ(advance_transfer(sync, -EINTR, kDirect), TransferStep::kContinue);
  EXPECT_EQ(advance_transfer(sync, 0, kDirect), TransferStep::kEnded);
  EXPECT_EQ(sync.sys_errno, 0);
  EXPECT_EQ(begin_transfer(sync), TransferStep::kContinue);
  EXPECT_EQ(advance_transfer(sync, -EIO, kDirect), TransferStep::kEnded);
  EXPECT_EQ(sync.sys_errno, EIO);
}

TEST_F(TransferTest, NoBytesAreDoneAtOnce) {
  iovec nothing{memory_.data(), 0};
  Request request;
  request.buffers = {&nothing, 1};
  EXPECT_EQ(begin_transfer(request), TransferStep::kEnded);
}

}  // namespace
}  // namespace larder::io
