#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/connector.h"
#include "module/common/interpreter.h"
#include "module/common/reference.h"

namespace larder::python {

/// How the callee uses a buffer.
enum class Access : std::uint8_t { kRead, kWrite };

/// An argument as an error names it: "buffers[3]", without an index "value", and the piece of a
/// value "buffers[3][0]".
struct ArgumentName {
  const char* name;
  Py_ssize_t index = -1;
  Py_ssize_t piece = -1;
  std::string text() const;
};

/// Keys and buffers of one call, kept alive and in place: a reference to each key, a buffer export
/// of each buffer (which also keeps a bytearray from being resized), a reference to each Addresses
/// and to the storage of each tensor.
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
  bool take_key(PyObject* key, const char* name = "key");
  /// After take_keys(): a sequence with a value for each key, or one Addresses whose pieces are
  /// dealt out to the keys, the same number to each.
  ///
  /// A value is an object with the buffer protocol or a torch tensor on the CPU, contiguous, of any
  /// shape and type of items; a list or tuple of them, which are its pieces; or an Addresses.
  bool take_buffers(PyObject* buffers, const char* name, Access access);
  /// One of them, to read from.
  bool take_value(PyObject* value) { return take_pieces(value, {"value"}, Access::kRead); }
  /// One buffer that the caller has made.
  void add_owned(PyObject* owned, std::byte* data, std::size_t bytes);

  std::span<const std::span<const std::byte>> keys() const noexcept { return key_bytes_; }
  /// The pieces of all values, one value after the other.
  std::span<const Slice> slices() const noexcept { return slices_; }
  std::size_t value_count() const noexcept { return ends_.empty() ? slices_.size() : ends_.size(); }
  /// The pieces of the value `index` in `slices`, a copy of slices().
  std::span<const Slice> pieces(std::size_t index, std::span<const Slice> slices) const noexcept {
    if (ends_.empty()) return slices.subspan(index, 1);
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return slices.subspan(begin, ends_[index] - begin);
  }
  /// From add_owned(), borrowed.
  PyObject* owned() const noexcept { return owned_; }

 private:
  bool take_pieces(PyObject* object, ArgumentName name, Access access);
  bool take_buffer(PyObject* object, const ArgumentName& name, Access access);
  bool take_tensor(PyObject* object, const ArgumentName& name, Access access);
  bool take_addresses(PyObject* object, const ArgumentName& name);
  /// Deals out the pieces to the keys.
  bool deal_out(const char* name);
  /// From now on values have several pieces; so far each has one.
  void count_pieces();

  PyObject* keys_ = nullptr;  ///< Our own tuple: no other code can change it.
  PyObject* owned_ = nullptr;
  std::vector<std::span<const std::byte>> key_bytes_;
  std::vector<Py_buffer> views_;
  std::vector<Reference> owners_;  ///< For memory without an export.
  std::vector<Slice> slices_;
  std::vector<std::size_t> ends_;  ///< For each value in slices_. Empty: each value has one piece.
  bool has_pieces_ = false;
};

}  // namespace larder::python
