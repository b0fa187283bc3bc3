#pragma once

#include <cstddef>
#include <memory>

#include "larder/base/aligned_buffer.h"
#include "module/common/reference.h"

namespace larder::python {

/// Memory for one value on its way to or from a Python object: never the caller's own, because a
/// view of it may outlive the call, and a view cannot be revoked. Freed with the last view.
struct ValueMemory {
  std::shared_ptr<AlignedBuffer> owner;
  std::size_t bytes = 0;  ///< The part of it that the value fills.

  std::byte* data() const noexcept { return owner->data(); }
};

/// A value's memory as a Python method sees it during one call: a memoryview, writable or not.
///
/// end() makes the memoryview itself unusable, and tells whether Python let go of everything that
/// was made of it (slices, arrays). Remaining ones keep the memory alive.
/// Threads: one, with the GIL held.
class CallBuffer {
 public:
  /// view() is nullptr, with a Python exception set, when there is no memory left.
  CallBuffer(const ValueMemory& memory, bool is_writable);
  ~CallBuffer();
  CallBuffer(const CallBuffer&) = delete;
  CallBuffer& operator=(const CallBuffer&) = delete;

  /// Borrowed.
  PyObject* view() const noexcept { return view_.get(); }
  /// Call it after the call, when its result and exception are gone. False: some view is left, even
  /// after a garbage collection if that is requested.
  bool end(bool collects) noexcept;

 private:
  /// Whether no other code has the memoryview, which is then gone, or an object made from it.
  bool is_let_go() noexcept;

  Reference exporter_;
  Reference view_;
};

}  // namespace larder::python
