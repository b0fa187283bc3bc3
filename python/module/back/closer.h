#pragma once

#include <cstdint>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "module/common/reference.h"

namespace larder::python {

/// Calls a Python object's close() once, in a thread of its own, so that each caller waits only as
/// long as it wants. Threads: any, without the GIL. Destroy it only after close() returned true or
/// if it was never called.
class Closer {
 public:
  /// Begins the close unless it has begun; false when it has not ended at `deadline_ns`. `object`
  /// is borrowed.
  bool close(PyObject* object, std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);

 private:
  enum class State : std::uint8_t { kOpen, kClosing, kClosed };
  void run(PyObject* object) noexcept LARDER_EXCLUDES(mutex_);

  Mutex mutex_;
  CondVar closed_;
  State state_ LARDER_GUARDED_BY(mutex_) = State::kOpen;
  Thread thread_;
};

}  // namespace larder::python
