#include "larder/server/copy/fault_guard.h"

#include <pthread.h>
#include <ucontext.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>

#include "larder/base/check.h"

namespace larder::server {
namespace {

/// What the handler needs of a thread whose guard is up.
struct Armed {
  sigjmp_buf jump;
  FaultGuard::Memory memory;
};

// The handler runs in the thread that has raised the signal.
thread_local Armed* armed = nullptr;
struct ::sigaction before{};

bool is_within(FaultGuard::Memory memory, const void* address) noexcept {
  const auto* const at = static_cast<const std::byte*>(address);
  for (const std::span<std::byte>& each : memory) {
    if (at >= each.data() && at < each.data() + each.size()) return true;
  }
  return false;
}

/// As if this handler were not there.
void pass_on(int signal, siginfo_t* info, void* context) noexcept {
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    // The access is repeated, and then ends the process where it happened.
    ::signal(signal, SIG_DFL);
  }
}

void on_fault(int signal, siginfo_t* info, void* context) noexcept {
  Armed* const guard = armed;
  if (guard == nullptr || !is_within(guard->memory, info->si_addr)) {
    return pass_on(signal, info, context);
  }
  armed = nullptr;
  // The handler never returns, so what was blocked for it stays so unless this ends it.
  ::pthread_sigmask(SIG_SETMASK, &static_cast<const ::ucontext_t*>(context)->uc_sigmask, nullptr);
  ::siglongjmp(guard->jump, 1);
}

Status take_signal() noexcept {
  struct ::sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(SIGBUS, &action, &before) == 0) return {};
  return Error::from_errno(errno, "copy", "taking SIGBUS");
}

}  // namespace

Status FaultGuard::install() noexcept {
  static const Status status = take_signal();
  return status;
}

bool FaultGuard::run_erased(Memory memory, void (*call)(const void*) noexcept,
                            const void* body) noexcept {
  LARDER_CHECK(armed == nullptr);
  Armed guard;
  guard.memory = memory;
  if (sigsetjmp(guard.jump, 0) != 0) return false;
  armed = &guard;
  call(body);
  armed = nullptr;
  return true;
}

}  // namespace larder::server
