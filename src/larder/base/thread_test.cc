#include "larder/base/thread.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

#include "larder/base/event_fd.h"
#include "larder/base/unique_fd.h"

namespace larder {
namespace {

Thread started(std::string_view name, std::function<void()> body) {
  auto thread = Thread::start(name, std::move(body));
  EXPECT_TRUE(thread);
  return std::move(thread).value();
}

TEST(ThreadTest, ItsOwnerJoinsItByDestructor) {
  std::atomic<bool> has_ended = false;
  {
    const Thread thread = started("test", [&] { has_ended = true; });
    EXPECT_TRUE(thread.joinable());
  }
  EXPECT_TRUE(has_ended);
}

TEST(ThreadTest, JoinMayBeCalledTwiceAndOnNone) {
  Thread none;
  EXPECT_FALSE(none.joinable());
  none.join();
  std::atomic<bool> has_ended = false;
  Thread thread = started("test", [&] { has_ended = true; });
  thread.join();
  EXPECT_TRUE(has_ended);
  EXPECT_FALSE(thread.joinable());
  thread.join();
}

TEST(ThreadTest, MovingInAnotherJoinsTheFirst) {
  std::atomic<int> ended = 0;
  Thread thread = started("one", [&] { ++ended; });
  Thread other = started("two", [&] { ++ended; });
  thread = std::move(other);
  EXPECT_GE(ended, 1);
  thread.join();
  EXPECT_EQ(ended, 2);
}

TEST(ThreadTest, CarriesTheFirst15BytesOfItsName) {
  char name[16] = {};
  started("larder-log-reactor-0", [&] {
    ::pthread_getname_np(::pthread_self(), name, sizeof(name));
  }).join();
  EXPECT_STREQ(name, "larder-log-reac");
}

TEST(ThreadTest, LeavesSignalsToTheApplicationButKeepsItsOwnCrashes) {
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  sigset_t inside;
  started("test", [&] { ::pthread_sigmask(SIG_SETMASK, nullptr, &inside); }).join();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGPIPE, SIGALRM}) {
    EXPECT_EQ(::sigismember(&inside, signal), 1) << signal;
  }
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
    EXPECT_EQ(::sigismember(&inside, signal), 0) << signal;
  }
  sigset_t after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal = 1; signal < SIGRTMAX; ++signal) {
    EXPECT_EQ(::sigismember(&before, signal), ::sigismember(&after, signal)) << signal;
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
// A limit of the address space leaves no room for a stack. (Sanitizers cannot live with one.)
TEST(ThreadDeathTest, WhenTheSystemGivesNoThreadItIsAnError) {
  const auto start_without_room = [] {
    const rlimit limit{.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    ::setrlimit(RLIMIT_AS, &limit);
    const auto thread = Thread::start("test", [] {});
    const bool is_right = !thread && thread.error().code() == ErrorCode::kResourceExhausted;
    std::_Exit(is_right ? 0 : 1);
  };
  EXPECT_EXIT(start_without_room(), testing::ExitedWithCode(0), "");
}
#endif

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(UniqueFdTest, ClosesWhatItOwns) {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  {
    const UniqueFd owner{fd};
    EXPECT_TRUE(owner);
    EXPECT_EQ(owner.get(), fd);
  }
  EXPECT_FALSE(is_open(fd));
  EXPECT_FALSE(UniqueFd{});
}

TEST(UniqueFdTest, MovesReleasesAndResets) {
  UniqueFd first{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  UniqueFd second{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int first_fd = first.get();
  const int second_fd = second.get();
  second = std::move(first);
  EXPECT_FALSE(is_open(second_fd));
  EXPECT_EQ(second.get(), first_fd);
  UniqueFd third{std::move(second)};
  EXPECT_EQ(third.get(), first_fd);

  EXPECT_EQ(third.release(), first_fd);
  EXPECT_TRUE(is_open(first_fd));
  EXPECT_EQ(third.get(), -1);
  third.reset(first_fd);
  third.reset();
  EXPECT_FALSE(is_open(first_fd));
}

bool is_readable(int fd) {
  pollfd poll_fd{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

TEST(EventFdTest, IsReadableFromSignalToDrain) {
  auto event = EventFd::create();
  ASSERT_TRUE(event);
  EXPECT_FALSE(is_readable(event->get()));
  EXPECT_FALSE(event->drain());
  event->signal();
  event->signal();
  EXPECT_TRUE(is_readable(event->get()));
  EXPECT_TRUE(event->drain());
  EXPECT_FALSE(is_readable(event->get()));
}

TEST(EventFdTest, AFullCounterStaysReadable) {
  auto event = EventFd::create();
  ASSERT_TRUE(event);
  const std::uint64_t nearly_full = 0xFFFFFFFFFFFFFFFEU;
  ASSERT_EQ(::write(event->get(), &nearly_full, sizeof(nearly_full)), 8);
  event->signal();
  EXPECT_TRUE(is_readable(event->get()));
  EXPECT_TRUE(event->drain());
}

TEST(EventFdTest, WakesAnotherThread) {
  auto event = EventFd::create();
  ASSERT_TRUE(event);
  const Thread thread = started("test", [&] { event->signal(); });
  pollfd poll_fd{.fd = event->get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&poll_fd, 1, 60'000), 1);
}

TEST(EventFdTest, WithoutDescriptorsItIsAnErrorThatMayPass) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto event = EventFd::create();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(event);
  EXPECT_EQ(event.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(event.error().sys_errno(), EMFILE);
}

}  // namespace
}  // namespace larder
