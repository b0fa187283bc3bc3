#include "larder/connector/reactor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

#include "larder/base/clock.h"
#include "tests/support/eventually.h"

namespace larder {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

/// A machine without work. The kernel keeps its thread in the first turn, until let_go().
class KeptMachine final : public Machine {
 public:
  explicit KeptMachine(Intake& intake) : intake_(intake) {}

  void turn() noexcept override {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return may_go_; });
  }
  std::uint64_t next_timer_ns() const noexcept override { return kNever; }
  void wait(std::uint64_t /*until_ns*/) noexcept override {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return is_woken_; });
    is_woken_ = false;
  }
  void wake() noexcept override {
    if (on_wake) on_wake();
    const std::lock_guard lock{mutex_};
    is_woken_ = true;
    changed_.notify_all();
  }
  void begin_stop() noexcept override {}
  bool is_idle() const noexcept override { return true; }
  void close() noexcept override {}
  void note_blocked() noexcept override { note(times_blocked_); }
  void note_unblocked() noexcept override {
    intake_.set_down(false);
    note(times_unblocked_);
  }

  void let_go() {
    const std::lock_guard lock{mutex_};
    may_go_ = true;
    changed_.notify_all();
  }
  void wait_until_let_go() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return may_go_; });
  }
  void wait_until_blocked() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return times_blocked_ > 0; });
  }
  void wait_until_unblocked() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return times_unblocked_ > 0; });
  }
  int times_blocked() {
    const std::lock_guard lock{mutex_};
    return times_blocked_;
  }

  /// In wake(), which the watcher calls at each check that finds the thread blocked.
  std::function<void()> on_wake;

 private:
  void note(int& times) {
    const std::lock_guard lock{mutex_};
    ++times;
    changed_.notify_all();
  }

  Intake& intake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool may_go_ = false;
  bool is_woken_ = false;
  int times_blocked_ = 0;
  int times_unblocked_ = 0;
};

class ReactorTest : public ::testing::Test {
 protected:
  Intake intake_{IntakeOptions{}, RealClock::instance()};
  KeptMachine machine_{intake_};
  Reactor reactor_{machine_, intake_, {.name = "reactor-test", .stall_ns = kSecond}};
};

TEST_F(ReactorTest, AThreadThatTheKernelKeepsIsDownUntilItIsBack) {
  ASSERT_TRUE(reactor_.start().has_value());
  machine_.wait_until_blocked();
  ASSERT_TRUE(testing::eventually([&] { return intake_.is_down(); }));
  machine_.let_go();
  machine_.wait_until_unblocked();
  EXPECT_EQ(machine_.times_blocked(), 1);
  EXPECT_FALSE(intake_.is_down());
  EXPECT_TRUE(reactor_.stop(kNever).has_value());
}

// The process stops between two looks, for longer than `stall_ns`. The next check finds the thread
// still there, its second of four.
TEST_F(ReactorTest, AProcessThatWasStoppedWasNotBlocked) {
  const ::pid_t child = ::fork();
  if (child == 0) {
    std::atomic<int> looks = 0;
    machine_.on_wake = [&] {
      const int look = ++looks;
      if (look == 1) ::kill(::getpid(), SIGSTOP);
      if (look == 2) machine_.let_go();
    };
    if (!reactor_.start()) ::_exit(2);
    machine_.wait_until_let_go();
    if (!reactor_.stop(kNever)) ::_exit(3);
    ::_exit(machine_.times_blocked());
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(std::chrono::milliseconds{1500});
  ASSERT_EQ(::kill(child, SIGCONT), 0);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace larder
