#include "larder/base/call_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "tests/support/eventually.h"

namespace larder {
namespace {

using GivenUp = CallThread::GivenUp;

/// Blocks every thread that passes until it is opened.
class Gate {
 public:
  void pass() {
    arrived_.set_value();
    opened_.wait();
  }
  void wait_for_arrival() { arrived_.get_future().wait(); }
  void open() { open_.set_value(); }

 private:
  std::promise<void> arrived_;
  std::promise<void> open_;
  std::shared_future<void> opened_ = open_.get_future().share();
};

std::unique_ptr<CallThread> started(std::function<void()> before_look = [] {}) {
  auto thread = CallThread::start("test-call", std::move(before_look));
  EXPECT_TRUE(thread);
  return std::move(*thread);
}

TEST(CallThreadTest, MakesCallsOneAfterTheOtherInOneThread) {
  const auto thread = started();
  std::thread::id first;
  std::thread::id second;
  std::optional<bool> was_abandoned;
  thread->begin({.run = [&] { first = std::this_thread::get_id(); },
                 .on_end = [&](bool value) { was_abandoned = value; }});
  EXPECT_TRUE(thread->wait(kNever));
  thread->begin({.run = [&] { second = std::this_thread::get_id(); }});
  EXPECT_TRUE(thread->wait(kNever));
  EXPECT_EQ(first, second);
  EXPECT_NE(first, std::this_thread::get_id());
  EXPECT_EQ(was_abandoned, false);
}

TEST(CallThreadTest, ACallThatEndedInTheMeantimeIsNotGivenUp) {
  const auto thread = started();
  std::promise<void> ended;
  thread->begin({.run = [] {}, .on_end = [&](bool) { ended.set_value(); }});
  ended.get_future().wait();
  EXPECT_EQ(thread->give_up(), GivenUp::kHadEnded);
  thread->begin({.run = [] {}});
  EXPECT_TRUE(thread->wait(kNever)) << "it is idle";
}

TEST(CallThreadTest, ACallThatHasNotBegunNeverDoes) {
  const auto gate = std::make_shared<Gate>();
  const auto is_first = std::make_shared<std::atomic<bool>>(true);
  const auto thread = started([gate, is_first] {
    if (is_first->exchange(false)) gate->pass();
  });
  gate->wait_for_arrival();
  bool has_run = false;
  thread->begin({.run = [&] { has_run = true; }});
  EXPECT_FALSE(thread->wait(0));
  EXPECT_EQ(thread->give_up([] { FAIL() << "it does not run"; }), GivenUp::kNotBegun);
  gate->open();
  bool has_next_run = false;
  thread->begin({.run = [&] { has_next_run = true; }});
  EXPECT_TRUE(thread->wait(kNever));
  EXPECT_TRUE(has_next_run);
  EXPECT_FALSE(has_run);
}

TEST(CallThreadTest, ACallThatRunsIsLeftToItselfAndEndsWithItsThread) {
  const auto gate = std::make_shared<Gate>();
  const auto ended = std::make_shared<std::promise<bool>>();
  const auto owned = std::make_shared<int>(1);
  std::atomic<bool> was_told = false;
  auto thread = started();
  thread->begin({.run = [gate, owned] { gate->pass(); },
                 .on_end = [ended](bool was_abandoned) { ended->set_value(was_abandoned); }});
  gate->wait_for_arrival();
  EXPECT_FALSE(thread->wait(0));
  EXPECT_EQ(thread->give_up([&] { was_told = true; }), GivenUp::kRunning);
  EXPECT_TRUE(was_told);
  thread.reset();  // Waits for nothing.
  EXPECT_EQ(owned.use_count(), 2);
  gate->open();
  EXPECT_TRUE(ended->get_future().get());
  EXPECT_TRUE(testing::eventually([&] { return owned.use_count() == 1; }))
      << "its function is destroyed there";
}

TEST(CallThreadTest, ItsEndGivesTheCallUp) {
  const auto gate = std::make_shared<Gate>();
  const auto ended = std::make_shared<std::promise<bool>>();
  {
    const auto thread = started();
    thread->begin({.run = [gate] { gate->pass(); },
                   .on_end = [ended](bool was_abandoned) { ended->set_value(was_abandoned); }});
    gate->wait_for_arrival();
  }
  gate->open();
  EXPECT_TRUE(ended->get_future().get());
}

TEST(CallThreadTest, AnInterruptEndsAWaitAlsoWhenItComesBefore) {
  const auto gate = std::make_shared<Gate>();
  const auto thread = started();
  thread->begin({.run = [gate] { gate->pass(); }});
  thread->interrupt();
  EXPECT_FALSE(thread->wait(kNever));
  std::thread interrupting{[&] { thread->interrupt(); }};
  EXPECT_FALSE(thread->wait(kNever));
  interrupting.join();
  gate->open();
  EXPECT_TRUE(thread->wait(kNever));
}

TEST(CallThreadTest, AWaitEndsByTheClockItIsGiven) {
  const auto gate = std::make_shared<Gate>();
  const auto thread = started();
  ManualClock clock;
  const std::uint64_t until_ns = clock.now_ns() + 3'600'000'000'000;
  thread->begin({.run = [gate] { gate->pass(); }});
  std::thread advancing{[&] { clock.advance_to_ns(until_ns); }};
  EXPECT_FALSE(thread->wait(until_ns, clock));
  advancing.join();
  EXPECT_EQ(clock.now_ns(), until_ns);
  gate->open();
  EXPECT_TRUE(thread->wait(kNever, clock));
}

}  // namespace
}  // namespace larder
