#include "module/common/python_thread.h"

#include <unistd.h>

namespace larder::python {

void ParkedAtTheEnd::park_if_ended() noexcept {
  // The GIL's holder is then the thread that ends the interpreter.
  while (is_finalizing() && PyGILState_Check() == 0) ::pause();
}

PythonThread::PythonThread() {
  const ParkedAtTheEnd parked;
  gil_ = PyGILState_Ensure();
  state_ = PyEval_SaveThread();
}

PythonThread::~PythonThread() {
  if (state_ == nullptr) return;
  const ParkedAtTheEnd parked;
  PyEval_RestoreThread(state_);
  PyGILState_Release(gil_);
}

PythonThread::Turn::~Turn() {
  // Not when CPython unwinds this thread: then it has no GIL to release.
  if (PyGILState_Check() != 0) PyEval_SaveThread();
}

}  // namespace larder::python
