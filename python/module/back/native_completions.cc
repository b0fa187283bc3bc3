#include "module/back/native_completions.h"

#include <poll.h>

#include <array>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "module/common/python_error.h"

namespace larder::python {
namespace {

/// Between checks of an object whose event fd cannot be trusted, or whose drain failed.
constexpr int kDistrustMs = 10;
/// As LMCache does: an object that forgot to signal is drained all the same.
constexpr int kPatienceMs = 500;

bool read_answer(PyObject* completion, NativeAnswer& answer) {
  const int is_ok = PyObject_IsTrue(PyTuple_GET_ITEM(completion, 1));
  PyObject* const error = PyTuple_GET_ITEM(completion, 2);
  PyObject* const results = PyTuple_GET_ITEM(completion, 3);
  answer.is_ok = is_ok == 1;
  const char* const text = PyUnicode_Check(error) ? PyUnicode_AsUTF8(error) : nullptr;
  if (text != nullptr) answer.error = text;
  bool is_good = is_ok >= 0 && (text != nullptr || error == Py_None);
  if (results != Py_None) {
    const Reference list = Reference::steal(PySequence_Fast(results, ""));
    answer.has_results = list && PySequence_Fast_GET_SIZE(list.get()) == 1;
    is_good = is_good && answer.has_results;
    if (answer.has_results) {
      const int is_true = PyObject_IsTrue(PySequence_Fast_GET_ITEM(list.get(), 0));
      answer.is_true = is_true == 1;
      is_good = is_good && is_true >= 0;
    }
  }
  PyErr_Clear();
  return is_good;
}

}  // namespace

NativeCompletions::NativeCompletions(Reference drain, int event_fd, EventFd wake)
    : drain_(std::move(drain)), event_fd_(event_fd), wake_(std::move(wake)) {}

NativeCompletions::~NativeCompletions() {
  is_stopping_.store(true, std::memory_order_release);
  wake_.signal();
  const WithGil with_gil;
  PyThreadState* const state = PyEval_SaveThread();  // The thread may need the GIL to end.
  thread_.join();
  PyEval_RestoreThread(state);
  drain_ = Reference{};
}

Status NativeCompletions::start() noexcept {
  const MutexLock lock{mutex_};
  auto thread = Thread::start("python-drain", [this] { run(); });
  if (!thread) return thread.error();
  thread_ = std::move(*thread);
  is_running_ = true;
  return {};
}

bool NativeCompletions::stop(std::uint64_t deadline_ns) noexcept {
  is_stopping_.store(true, std::memory_order_release);
  wake_.signal();
  const MutexLock lock{mutex_};
  while (is_running_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= deadline_ns) return false;
    ended_.wait_for(mutex_, deadline_ns - now_ns);
  }
  return true;
}

void NativeCompletions::begin() noexcept {
  const MutexLock lock{mutex_};
  ++submitting_;
}

bool NativeCompletions::expect(std::uint64_t future_id, Waiter& waiter) {
  const MutexLock lock{mutex_};
  const bool is_new = expected_.emplace(future_id, &waiter).second;
  if (is_new) {
    if (auto early = early_.extract(future_id); !early.empty()) {
      expected_.erase(future_id);
      waiter.answer = std::move(early.mapped());
      waiter.has_come = true;
    }
  }
  end_submission();
  return is_new;
}

void NativeCompletions::give_up() noexcept {
  const MutexLock lock{mutex_};
  end_submission();
}

void NativeCompletions::end_submission() noexcept {
  if (--submitting_ > 0) return;
  unknown_total_.fetch_add(early_.size(), std::memory_order_relaxed);
  early_.clear();
}

NativeAnswer NativeCompletions::wait(Waiter& waiter) noexcept {
  const MutexLock lock{mutex_};
  while (!waiter.has_come) waiter.came.wait(mutex_);
  return std::move(waiter.answer);
}

void NativeCompletions::append_report(Report& report) const {
  report.counters.push_back({"completions_unknown_total", unknown_total_.load()});
  report.counters.push_back({"completions_malformed_total", malformed_total_.load()});
  report.counters.push_back({"drain_errors_total", drain_errors_total_.load()});
  if (is_fd_broken_.load(std::memory_order_relaxed)) {
    report.reasons.push_back(
        "the object's event_fd() is no descriptor that can be polled; it is asked every 10 ms");
  }
}

// ---- The thread ---------------------------------------------------------------------------------

void NativeCompletions::run() noexcept {
  {
    const PythonThread thread;
    while (!is_stopping_.load(std::memory_order_acquire)) {
      if (wait_for_work()) drain(thread);
    }
  }
  const MutexLock lock{mutex_};
  is_running_ = false;
  ended_.notify_all();
}

bool NativeCompletions::wait_for_work() noexcept {
  const bool is_broken = is_fd_broken_.load(std::memory_order_relaxed);
  const bool is_distrusted = is_broken || has_drain_failed_;
  // After a failed drain the object's descriptor would be readable at once.
  std::array<pollfd, 2> fds{
      {{wake_.get(), POLLIN, 0}, {is_distrusted ? -1 : event_fd_, POLLIN, 0}}};
  ::poll(fds.data(), fds.size(), is_distrusted ? kDistrustMs : kPatienceMs);
  if (is_stopping_.load(std::memory_order_acquire)) return false;
  const int events = fds[1].revents;
  if ((events & POLLIN) != 0 || is_distrusted) return true;
  if (events != 0) {
    is_fd_broken_.store(true, std::memory_order_relaxed);
    log(LogLevel::kWarning, "python", "a connector's event_fd() cannot be polled");
  }
  const MutexLock lock{mutex_};
  return !expected_.empty();
}

void NativeCompletions::drain(const PythonThread& thread) noexcept {
  const PythonThread::Turn turn{thread};
  const Reference list = Reference::steal(PyObject_CallNoArgs(drain_.get()));
  const Reference items = Reference::steal(list ? PySequence_Fast(list.get(), "") : nullptr);
  if (!items) {
    const std::string text = take_exception();
    drain_errors_total_.fetch_add(1, std::memory_order_relaxed);
    if (!has_drain_failed_) {
      log(LogLevel::kWarning, "python", "drain_completions() failed: " + text);
    }
    has_drain_failed_ = true;
    return;
  }
  has_drain_failed_ = false;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i) {
    take(PySequence_Fast_GET_ITEM(items.get(), i));
  }
}

void NativeCompletions::take(PyObject* completion) {
  std::uint64_t future_id = 0;
  bool is_good = PyTuple_Check(completion) && PyTuple_GET_SIZE(completion) == 4 &&
                 PyLong_Check(PyTuple_GET_ITEM(completion, 0));
  if (is_good) {
    future_id = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(completion, 0));
    is_good = PyErr_Occurred() == nullptr;
    PyErr_Clear();
  }
  if (!is_good) {
    malformed_total_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  NativeAnswer answer;
  if (!read_answer(completion, answer)) {
    malformed_total_.fetch_add(1, std::memory_order_relaxed);
    answer = {};
    answer.error = "drain_completions() gave no (id, ok, error, [result] or None)";
  }
  deliver(future_id, std::move(answer));
}

void NativeCompletions::deliver(std::uint64_t future_id, NativeAnswer answer) {
  const MutexLock lock{mutex_};
  const auto found = expected_.find(future_id);
  if (found != expected_.end()) {
    Waiter& waiter = *found->second;
    expected_.erase(found);
    waiter.answer = std::move(answer);
    waiter.has_come = true;
    waiter.came.notify_one();  // Under the mutex, because the waiter may be destroyed as soon as
                               // its future has ended.
  } else if (submitting_ == 0 || !early_.emplace(future_id, std::move(answer)).second) {
    unknown_total_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace larder::python
