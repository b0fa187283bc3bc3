#include "module/back/closer.h"

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "module/back/python_object.h"
#include "module/common/python_error.h"

namespace larder::python {

bool Closer::close(PyObject* object, std::uint64_t deadline_ns) noexcept {
  const MutexLock lock{mutex_};
  if (state_ == State::kOpen) {
    state_ = State::kClosing;
    auto thread = Thread::start("python-close", [this, object] { run(object); });
    if (thread) {
      thread_ = std::move(*thread);
    } else {
      log(LogLevel::kWarning, "python",
          "there is no thread to call close() in, and so it is not called");
      state_ = State::kClosed;
    }
  }
  while (state_ != State::kClosed) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= deadline_ns) return false;
    closed_.wait_for(mutex_, deadline_ns - now_ns);
  }
  return true;
}

void Closer::run(PyObject* object) noexcept {
  {
    const WithGil with_gil;
    const Reference method = method_of(object, "close");
    const Reference result = Reference::steal(method ? PyObject_CallNoArgs(method.get()) : nullptr);
    if (method && !result) {
      log(LogLevel::kWarning, "python", "close() raised " + take_exception());
    }
  }
  const MutexLock lock{mutex_};
  state_ = State::kClosed;
  closed_.notify_all();
}

}  // namespace larder::python
