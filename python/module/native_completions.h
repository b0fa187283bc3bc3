#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/report.h"
#include "module/python_thread.h"
#include "module/reference.h"

namespace larder::python {

/// What a native-contract object says of one future.
struct NativeAnswer {
  bool is_ok = false;
  bool has_results = false;
  bool is_true = false;  ///< Its first result.
  std::string error;
};

/// Takes the completions of an object with LMCache's native contract, in a thread of its own, and
/// brings each to the thread that waits for it.
///
/// Whatever the object completes that nobody waits for (an unknown future, one that was completed
/// before), and what is no completion, is counted and left. A future that is never completed is
/// waited for: until then the object may use the buffer.
/// Threads: any. Destroy it only after stop() said true.
class NativeCompletions {
 public:
  /// One future, while somebody waits for it.
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

  /// Before a submission, whose completion may be drained before its number is known; then either
  /// expect() or give_up(), with the GIL held all the time or given back by the object only.
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
  /// Came while some submission was under way whose number nobody knew.
  std::unordered_map<std::uint64_t, NativeAnswer> early_ LARDER_GUARDED_BY(mutex_);
  std::uint32_t submitting_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_running_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::python
