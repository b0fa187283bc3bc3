#include "module/common/interpreter.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "larder/base/clock.h"

namespace larder::python {
namespace {

std::atomic<std::uint64_t> generation = 0;
// Changed with the GIL held only.
bool has_exit_begun = false;
pthread_t exiting_thread;
std::uint64_t threads_without_gil = 0;

/// The one that ends the interpreter, which may give the GIL back until the very end.
bool is_exiting_thread() noexcept {
  return has_exit_begun && ::pthread_equal(exiting_thread, ::pthread_self()) != 0;
}

void after_fork_in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  threads_without_gil = 0;  // They are the parent's.
}

}  // namespace

WithoutGil::WithoutGil() noexcept {
  if (has_exit_begun && !is_exiting_thread()) return;
  ++threads_without_gil;
  state_ = PyEval_SaveThread();
}

WithoutGil::~WithoutGil() {
  if (state_ == nullptr) return;
  // Only after leave_interpreter() lost patience. The process ends in a moment, without this
  // thread.
  while (is_finalizing() && !is_exiting_thread()) ::pause();
  PyEval_RestoreThread(state_);
  --threads_without_gil;
}

std::uint64_t fork_generation() noexcept {
  return generation.load(std::memory_order_relaxed);
}

void enter_interpreter() noexcept {
  static const int registered = ::pthread_atfork(nullptr, nullptr, after_fork_in_child);
  (void)registered;
  has_exit_begun = false;
}

void begin_exit() noexcept {
  has_exit_begun = true;
  exiting_thread = ::pthread_self();
}

bool is_exiting() noexcept {
  return has_exit_begun;
}

bool is_finalizing() noexcept {
#if PY_VERSION_HEX >= 0x030d0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

void park_at_exit() noexcept {
  if (!has_exit_begun || is_exiting_thread()) return;
  PyEval_SaveThread();
  for (;;) ::pause();
}

void leave_interpreter(std::uint64_t patience_ns) noexcept {
  const Clock& clock = RealClock::instance();
  const std::uint64_t until_ns = clock.now_ns() + patience_ns;
  while (threads_without_gil > 0 && clock.now_ns() < until_ns) {
    PyThreadState* const state = PyEval_SaveThread();
    ::usleep(1000);
    PyEval_RestoreThread(state);
  }
}

}  // namespace larder::python
