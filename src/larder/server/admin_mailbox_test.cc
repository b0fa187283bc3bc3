#include "larder/server/admin_mailbox.h"

#include <gtest/gtest.h>

#include "larder/base/clock.h"
#include "larder/base/thread.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

class AdminMailboxTest : public ::testing::Test {
 protected:
  void SetUp() override { box_ = std::move(*AdminMailbox::create()); }

  /// Asks in a thread of its own; the answer is there when the thread has ended.
  struct Caller {
    AdminAnswer answer = AdminError{};
    Thread thread;
  };
  std::unique_ptr<Caller> ask(AdminCommand command) {
    auto caller = std::make_unique<Caller>();
    auto thread = Thread::start(
        "caller", [this, command, at = caller.get()] { at->answer = box_->ask(command, kNever); });
    EXPECT_TRUE(thread);
    caller->thread = *std::move(thread);
    return caller;
  }
  AdminMailbox::Mail take() {
    wait_readable(box_->event_fd(), -1, kNever);
    std::vector<AdminMailbox::Mail> mail = box_->take();
    EXPECT_EQ(mail.size(), 1U);
    return mail.at(0);
  }

  std::unique_ptr<AdminMailbox> box_;
};

TEST_F(AdminMailboxTest, ACallerGetsTheLoopsAnswerToItsOwnCommand) {
  const auto clear = ask(ClearCommand{.force = true});
  const AdminMailbox::Mail first = take();
  EXPECT_TRUE(std::get<ClearCommand>(first.command).force);
  const auto sums = ask(ChecksumCommand{.instance = {.bits = 7}});
  const AdminMailbox::Mail second = take();
  EXPECT_EQ(std::get<ChecksumCommand>(second.command).instance.bits, 7U);
  box_->answer(second.ticket, AdminResult{.layers = 4});
  sums->thread.join();
  ASSERT_TRUE(sums->answer);
  EXPECT_EQ(sums->answer->layers, 4U);
  box_->answer(first.ticket, AdminError{.kind = Kind::kInvalid, .text = "no"});
  clear->thread.join();
  ASSERT_FALSE(clear->answer);
  EXPECT_EQ(clear->answer.error().text, "no");
  EXPECT_TRUE(box_->take().empty());
}

TEST_F(AdminMailboxTest, ACommandThatTheLoopDidNotTakeInTimeIsWithdrawn) {
  const AdminAnswer answer = box_->ask(ClearCommand{}, RealClock::instance().now_ns());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::kBusy);
  EXPECT_NE(answer.error().text.find("nothing was done"), std::string::npos);
  EXPECT_TRUE(box_->take().empty());
}

TEST_F(AdminMailboxTest, OneThatWasTakenMayStillTakeEffectAndItsAnswerIsDropped) {
  const auto caller = ask(ClearCommand{});
  const AdminMailbox::Mail mail = take();
  box_->close();
  caller->thread.join();
  ASSERT_FALSE(caller->answer);
  EXPECT_NE(caller->answer.error().text.find("may still take effect"), std::string::npos);
  box_->answer(mail.ticket, AdminResult{});
}

TEST_F(AdminMailboxTest, TheEndAnswersThoseThatWaitAndThoseThatCome) {
  const auto caller = ask(ClearCommand{});
  wait_readable(box_->event_fd(), -1, kNever);
  box_->close();
  caller->thread.join();
  ASSERT_FALSE(caller->answer);
  EXPECT_NE(caller->answer.error().text.find("nothing was done"), std::string::npos);
  EXPECT_TRUE(box_->take().empty());
  EXPECT_FALSE(box_->ask(ClearCommand{}, kNever));
}

TEST_F(AdminMailboxTest, TooManyCallersAreRefusedAtOnce) {
  std::vector<std::unique_ptr<Caller>> callers;
  std::vector<AdminMailbox::Mail> taken;
  for (std::size_t i = 0; i < AdminMailbox::kAskersMax; ++i) {
    callers.push_back(ask(ClearCommand{}));
    taken.push_back(take());
  }
  const AdminAnswer answer = box_->ask(ClearCommand{}, kNever);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::kBusy);
  EXPECT_TRUE(box_->take().empty());
  for (const AdminMailbox::Mail& mail : taken) box_->answer(mail.ticket, AdminResult{});
  for (const auto& caller : callers) {
    caller->thread.join();
    EXPECT_TRUE(caller->answer);
  }
}

}  // namespace
}  // namespace larder::server
