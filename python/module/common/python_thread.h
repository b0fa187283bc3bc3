#pragma once

#include <utility>

#include "module/common/interpreter.h"

namespace larder::python {

/// Stops a thread that CPython (before 3.14) ends by unwinding it because it asked for the GIL when
/// the interpreter had ended: it never comes back, and the process ends in a moment without it.
/// Declare it before any member that needs the GIL.
class ParkedAtTheEnd {
 public:
  ParkedAtTheEnd() noexcept { park_if_ended(); }
  ~ParkedAtTheEnd() { park_if_ended(); }
  ParkedAtTheEnd(const ParkedAtTheEnd&) = delete;
  ParkedAtTheEnd& operator=(const ParkedAtTheEnd&) = delete;

 private:
  static void park_if_ended() noexcept;
};

/// The GIL for a scope, in a thread that need not be Python's. A thread that has it may ask again.
class WithGil {
 public:
  WithGil() : state_(PyGILState_Ensure()) {}
  ~WithGil() { PyGILState_Release(state_); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;

 private:
  ParkedAtTheEnd parked_;
  PyGILState_STATE state_;
};

/// Makes a thread of ours one of Python's, for as long as this object lives: `threading.local` and
/// the rest of a Python thread's state last from call to call. Made, used and destroyed in one
/// thread, which does not hold the GIL except inside a Turn.
class PythonThread {
 public:
  PythonThread();
  ~PythonThread();
  PythonThread(PythonThread&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)), gil_(other.gil_) {}
  PythonThread& operator=(PythonThread&& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(gil_, other.gil_);
    return *this;
  }
  PythonThread(const PythonThread&) = delete;
  PythonThread& operator=(const PythonThread&) = delete;

  /// The GIL for a scope.
  class Turn {
   public:
    explicit Turn(const PythonThread& thread) { PyEval_RestoreThread(thread.state_); }
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    ParkedAtTheEnd parked_;
  };

 private:
  PyThreadState* state_ = nullptr;
  PyGILState_STATE gil_ = PyGILState_UNLOCKED;
};

}  // namespace larder::python
