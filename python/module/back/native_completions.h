#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/report.h"
#include "module/common/python_thread.h"
#include "module/common/reference.h"

namespace larder::python {

/// A native-contract object's result of one future.
struct NativeAnswer {
  bool is_ok = false;
  bool has_results = false;
  bool is_true = false;  ///< Its first result.
  std::string error;
};

/// Takes the completions of an object with LMCache's native contract, in a thread of its own, and
/// passes each to the thread that waits for it.
///
/// Completions without a waiter (an unknown future, one that was completed before), and malformed
/// ones, are counted and dropped. A future that is never completed is waited for, because until
/// then the object may use the buffer.
/// Threads: any. Destroy it only after stop() returned true.
class NativeCompletions {
 public:
  /// One future, while a thread waits for it.
  struct Waiter {
    bool has_come = false;
    NativeAnswer answer;
    CondVar came;
  };

  /// `drain`: the object's drain_completions.
  NativeCompletions(Reference drain, int event_fd, EventFd wake);
  ~NativeCompletions();
  NativeCompletions(const NativeCompletions&) = delete;
  NativeCompletions& operator=(const NativeCompletions&) = delete;

  Status start() noexcept LARDER_EXCLUDES(mutex_);

  /// Call it before a submission, whose completion may be drained before its number is known; then
  /// call either expect() or give_up(). The GIL is held all the time, or released by the object
  /// only.
  void begin() noexcept LARDER_EXCLUDES(mutex_);
  /// False: that future is in flight already.
  bool expect(std::uint64_t future_id, Waiter& waiter) LARDER_EXCLUDES(mutex_);
  void give_up() noexcept LARDER_EXCLUDES(mutex_);
  /// Without the GIL.
  NativeAnswer wait(Waiter& waiter) noexcept LARDER_EXCLUDES(mutex_);

  void append_report(Report& report) const;
  /// Ends the thread. False when it is still in drain_completions() at `deadline_ns`.
  bool stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);

 private:
  void run() noexcept LARDER_EXCLUDES(mutex_);
  /// Whether it is time to drain; false also at the end.
  bool wait_for_work() noexcept LARDER_EXCLUDES(mutex_);
  void drain(const PythonThread& thread) noexcept;
  void take(PyObject* completion) LARDER_EXCLUDES(mutex_);
  void deliver(std::uint64_t future_id, NativeAnswer answer) LARDER_EXCLUDES(mutex_);
  void end_submission() noexcept LARDER_REQUIRES(mutex_);

  Reference drain_;
  const int event_fd_;
  EventFd wake_;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<bool> is_fd_broken_ = false;
  std::atomic<std::uint64_t> unknown_total_ = 0;
  std::atomic<std::uint64_t> malformed_total_ = 0;
  std::atomic<std::uint64_t> drain_errors_total_ = 0;
  bool has_drain_failed_ = false;  ///< The thread's.

  Mutex mutex_;
  CondVar ended_;
  std::unordered_map<std::uint64_t, Waiter*> expected_ LARDER_GUARDED_BY(mutex_);
  /// Arrived during a submission whose number was not known yet.
  std::unordered_map<std::uint64_t, NativeAnswer> early_ LARDER_GUARDED_BY(mutex_);
  std::uint32_t submitting_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_running_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::python
