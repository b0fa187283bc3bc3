#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/connector.h"
#include "module/interpreter.h"

namespace larder::python {

/// What the callee does with a buffer.
enum class Access : std::uint8_t { kRead, kWrite };

/// An argument as an error names it: "buffers[3]", or without an index "value".
struct ArgumentName {
  const char* name;
  Py_ssize_t index = -1;
  std::string text() const;
};

/// Keys and buffers of one call, kept alive and in place: a reference to each key, a buffer export
/// of each buffer (which also keeps a bytearray from being resized).
///
/// Ownership: Python references; made, moved and destroyed with the GIL held.
/// The functions return false with a Python exception set that names argument and index.
class Arguments {
 public:
  Arguments() = default;
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  /// A sequence or another iterable of str or bytes.
  bool take_keys(PyObject* keys, const char* name);
  /// One of them.
  bool take_key(PyObject* key);
  /// A sequence of objects with the buffer protocol: contiguous, one dimension, items of one byte.
  bool take_buffers(PyObject* buffers, const char* name, Access access);
  /// One of them, to be read.
  bool take_value(PyObject* value) { return take_buffer(value, {"value"}, Access::kRead); }
  /// One buffer that the caller has made.
  void add_owned(PyObject* owned, std::byte* data, std::size_t bytes);

  std::span<const std::span<const std::byte>> keys() const noexcept { return key_bytes_; }
  std::span<const Slice> slices() const noexcept { return slices_; }
  /// Of add_owned(), borrowed.
  PyObject* owned() const noexcept { return owned_; }

 private:
  bool take_buffer(PyObject* object, const ArgumentName& name, Access access);

  PyObject* keys_ = nullptr;  ///< A tuple of ours, so that nobody else can take one out.
  PyObject* owned_ = nullptr;
  std::vector<std::span<const std::byte>> key_bytes_;
  std::vector<Py_buffer> views_;
  std::vector<Slice> slices_;
};

}  // namespace larder::python
