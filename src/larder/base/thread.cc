#include "larder/base/thread.h"

#include <pthread.h>

#include <csignal>
#include <string>
#include <system_error>
#include <utility>

namespace larder {
namespace {

constexpr std::size_t kNameBytesMax = 15;  // Linux's limit.

/// Blocks signals in this thread for a scope; a thread made in it inherits the mask and keeps it.
class BlockedSignals {
 public:
  BlockedSignals() noexcept {
    sigset_t blocked;
    ::sigfillset(&blocked);
    for (const int raised_by_the_thread_itself : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
      ::sigdelset(&blocked, raised_by_the_thread_itself);
    }
    ::pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Result<Thread> Thread::start(std::string_view name, std::function<void()> body) {
  const std::string short_name{name.substr(0, kNameBytesMax)};
  const BlockedSignals blocked;
  try {
    return Thread{std::thread{[short_name, body = std::move(body)] {
      ::pthread_setname_np(::pthread_self(), short_name.c_str());
      body();
    }}};
  } catch (const std::system_error& error) {
    return Error::from_errno(error.code().value(), "thread", "starting a thread");
  }
}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this != &other) {
    join();
    thread_ = std::move(other.thread_);
  }
  return *this;
}

void Thread::join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace larder
