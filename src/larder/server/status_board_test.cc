#include "larder/server/status_board.h"

#include <gtest/gtest.h>

#include <memory>

#include "larder/base/clock.h"
#include "larder/base/thread.h"

namespace larder::server {
namespace {

std::shared_ptr<const ServerStatus> status_of(std::uint32_t chunk_tokens) {
  auto status = std::make_shared<ServerStatus>();
  status->chunk_tokens = chunk_tokens;
  return status;
}

TEST(StatusBoardTest, AReaderGetsWhatTheLoopAnswers) {
  const auto board = std::move(*StatusBoard::create());
  board->publish(status_of(1));
  auto loop = std::move(*Thread::start("loop", [&] {
    wait_readable(board->event_fd(), -1, kNever);
    if (board->is_asked()) board->publish(status_of(2));
  }));
  const StatusBoard::Reading reading = board->ask(kNever);
  EXPECT_TRUE(reading.is_fresh);
  EXPECT_EQ(reading.status->chunk_tokens, 2U);
}

TEST(StatusBoardTest, ALoopThatDoesNotRunIsToldFromOneThatDoes) {
  const auto board = std::move(*StatusBoard::create());
  board->publish(status_of(7));
  const StatusBoard::Reading reading = board->ask(RealClock::instance().now_ns());
  EXPECT_FALSE(reading.is_fresh);
  EXPECT_EQ(reading.status->chunk_tokens, 7U);
}

TEST(StatusBoardTest, TheLoopsSilenceCountsFromTheFirstQuestionThatItDidNotAnswer) {
  const Clock& clock = RealClock::instance();
  const auto board = std::move(*StatusBoard::create());
  board->publish(status_of(7));
  const StatusBoard::Reading first = board->ask(clock.now_ns() + 1'000'000);
  EXPECT_GT(first.silent_ns, 0U);
  EXPECT_GE(board->ask(0).silent_ns, first.silent_ns);
  board->publish(status_of(8));
  const std::uint64_t begin_ns = clock.now_ns();
  const StatusBoard::Reading next = board->ask(0);
  EXPECT_LE(next.silent_ns, clock.now_ns() - begin_ns + 1);
}

TEST(StatusBoardTest, NothingIsAskedOfALoopThatHasGone) {
  const auto board = std::move(*StatusBoard::create());
  board->publish(status_of(7));
  auto reader =
      std::move(*Thread::start("reader", [&] { EXPECT_FALSE(board->ask(kNever).is_fresh); }));
  wait_readable(board->event_fd(), -1, kNever);
  board->close();
  reader.join();
  EXPECT_FALSE(board->ask(kNever).is_fresh);
}

}  // namespace
}  // namespace larder::server
