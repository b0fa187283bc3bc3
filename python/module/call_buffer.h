#pragma once

#include "larder/connector/connector.h"
#include "module/reference.h"

namespace larder::python {

/// A caller's memory as a Python method sees it during one call: a memoryview, writable or not.
///
/// The memory is only lent. end() tells whether Python let go of all views of it (slices, arrays
/// made of it): one that is left could be used after the caller has its memory back.
/// Threads: one, with the GIL held.
class CallBuffer {
 public:
  /// view() is nullptr, with a Python exception set, when there is no memory left.
  CallBuffer(const Slice& memory, bool is_writable);
  ~CallBuffer();
  CallBuffer(const CallBuffer&) = delete;
  CallBuffer& operator=(const CallBuffer&) = delete;

  /// Borrowed.
  PyObject* view() const noexcept { return view_.get(); }
  /// After the call, when its result and exception are gone. False: some view is left, also after
  /// a collection of garbage if that is asked for.
  bool end(bool collects) noexcept;

 private:
  Reference exporter_;
  Reference view_;
};

}  // namespace larder::python
