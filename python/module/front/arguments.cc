#include "module/front/arguments.h"

#include <algorithm>
#include <string>

#include "module/front/addresses.h"
#include "module/front/tensors.h"

namespace larder::python {
namespace {

const char* type_name(PyObject* object) {
  return Py_TYPE(object)->tp_name;
}

/// The name of a wrong object in errors: "None" rather than "NoneType".
const char* shown_type(PyObject* object) {
  return object == Py_None ? "None" : type_name(object);
}

/// A tuple of the elements of `object`, so that it can neither grow nor lose any.
PyObject* tuple_of(PyObject* object, const char* name, const char* wanted) {
  if (PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object)) {
    PyErr_Format(PyExc_TypeError, "%s: a single %s, wanted a list of %s", name, type_name(object),
                 wanted);
    return nullptr;
  }
  PyObject* const tuple = PySequence_Tuple(object);
  if (tuple == nullptr && PyErr_ExceptionMatches(PyExc_TypeError) &&
      Py_TYPE(object)->tp_iter == nullptr && !PySequence_Check(object)) {
    PyErr_Format(PyExc_TypeError, "%s: %s, wanted a list of %s", name, shown_type(object), wanted);
  }
  return tuple;
}

bool bytes_of_key(PyObject* key, const ArgumentName& name, std::span<const std::byte>& out) {
  if (PyUnicode_Check(key)) {
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(key, &size);
    if (text == nullptr) {
      PyErr_Clear();
      PyErr_Format(PyExc_ValueError, "%s: the str has no UTF-8 form (a lone surrogate); pass bytes",
                   name.text().c_str());
      return false;
    }
    out = {reinterpret_cast<const std::byte*>(text), static_cast<std::size_t>(size)};
    return true;
  }
  if (PyBytes_Check(key)) {
    out = {reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(key)),
           static_cast<std::size_t>(PyBytes_GET_SIZE(key))};
    return true;
  }
  PyErr_Format(PyExc_TypeError, "%s: %s, wanted str or bytes", name.text().c_str(),
               shown_type(key));
  return false;
}

/// Whether the items of a buffer are Python objects, by its format (of the module struct, with
/// names of fields between colons): their bytes are addresses.
bool has_objects(const char* format) {
  bool is_name = false;
  for (; format != nullptr && *format != 0; ++format) {
    if (*format == ':') is_name = !is_name;
    if (!is_name && *format == 'O') return true;
  }
  return false;
}

/// Whether this, where a list of buffers is wanted, is one: an array of numbers. One of Python
/// objects may hold buffers, and the rows of one with more dimensions are some.
bool is_one_buffer(PyObject* object) {
  Py_buffer view{};
  if (PyObject_CheckBuffer(object) == 0) return false;
  if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) {
    PyErr_Clear();
    return false;
  }
  const bool is_one = view.ndim <= 1 && !has_objects(view.format);
  PyBuffer_Release(&view);
  return is_one;
}

bool refuse_objects(PyObject* object, const ArgumentName& name) {
  PyErr_Format(
      PyExc_ValueError,
      "%s: %s of Python objects, whose bytes are addresses; wanted items that are their own "
      "bytes: convert them, for a numpy array with x.astype(numpy.float32) or another dtype",
      name.text().c_str(), type_name(object));
  return false;
}

bool refuse_shape(const Py_buffer& view, PyObject* object, const ArgumentName& name,
                  Access access) {
  const std::string format = view.format == nullptr ? "B" : view.format;
  std::string shape;
  for (int i = 0; view.shape != nullptr && i < view.ndim; ++i) {
    shape += (i == 0 ? "" : ", ") + std::to_string(view.shape[i]);
  }
  // Never an object that would load into a copy.
  PyErr_Format(PyExc_ValueError,
               "%s: %s of shape (%s), format '%s', not contiguous; wanted one that is: %s",
               name.text().c_str(), type_name(object), shape.c_str(), format.c_str(),
               access == Access::kRead ? "numpy.ascontiguousarray(x)"
                                       : "load into t = numpy.ascontiguousarray(x), and then "
                                         "numpy.asarray(x)[...] = t");
  return false;
}

/// With the exporter's reason, which is often the better one, unless there is no exporter.
bool refuse_object(PyObject* object, const ArgumentName& name, Access access) {
  if (PyObject_CheckBuffer(object) == 0) {
    PyErr_Clear();
    const char* wanted =
        "has no bytes; wanted bytes, a bytearray, a memoryview, a contiguous numpy array or torch "
        "tensor, a list of these, or larder.Addresses";
    const char* remedy = "";
    if (access == Access::kWrite) {
      wanted =
          "has no memory to load into; wanted a writable buffer of the value's size, for "
          "example bytearray(size), a contiguous numpy array or torch tensor";
    } else if (object == Py_None) {
      remedy = ". To remove a key: delete([key])";
    } else if (PyUnicode_Check(object)) {
      remedy = ". For a text: x.encode()";
    }
    PyErr_Format(PyExc_TypeError, "%s: %s %s%s", name.text().c_str(), shown_type(object), wanted,
                 remedy);
    return false;
  }
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  Py_buffer view{};
  if (access == Access::kWrite && PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) == 0) {
    PyBuffer_Release(&view);
    PyErr_Format(PyExc_TypeError,
                 "%s: %s is read-only, and its bytes would be written; pass a writable one, for "
                 "example bytearray(size)",
                 name.text().c_str(), type_name(object));
  } else {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: %s gives no buffer: %S%s", name.text().c_str(),
                 type_name(object), value != nullptr ? value : Py_None,
                 PyObject_HasAttrString(object, "dtype") != 0
                     ? ". The bytes of a contiguous numpy array x: x.view(numpy.uint8)"
                     : "");
  }
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return false;
}

}  // namespace

std::string ArgumentName::text() const {
  std::string text{name};
  if (index >= 0) text += '[' + std::to_string(index) + ']';
  if (piece >= 0) text += '[' + std::to_string(piece) + ']';
  return text;
}

Arguments::~Arguments() {
  for (Py_buffer& view : views_) PyBuffer_Release(&view);
  Py_XDECREF(keys_);
  Py_XDECREF(owned_);
}

bool Arguments::take_keys(PyObject* keys, const char* name) {
  keys_ = tuple_of(keys, name, "str or bytes");
  if (keys_ == nullptr) return false;
  const Py_ssize_t count = PyTuple_GET_SIZE(keys_);
  if (static_cast<std::size_t>(count) > kItemsMax) {
    PyErr_Format(PyExc_ValueError, "%s: %zd keys, wanted at most %zu in one call", name, count,
                 kItemsMax);
    return false;
  }
  key_bytes_.resize(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (!bytes_of_key(PyTuple_GET_ITEM(keys_, i), {name, i}, key_bytes_[at])) return false;
  }
  return true;
}

bool Arguments::take_key(PyObject* key, const char* name) {
  keys_ = PyTuple_Pack(1, key);
  if (keys_ == nullptr) return false;
  key_bytes_.resize(1);
  return bytes_of_key(key, {name}, key_bytes_[0]);
}

bool Arguments::take_buffers(PyObject* buffers, const char* name, Access access) {
  if (is_one_buffer(buffers)) {
    PyErr_Format(PyExc_TypeError, "%s: a single %s, wanted a list of buffers, one for each key",
                 name, type_name(buffers));
    return false;
  }
  if (addresses_in(buffers) != nullptr) return take_addresses(buffers, {name}) && deal_out(name);
  PyObject* const tuple = tuple_of(buffers, name, "buffers, one for each key");
  if (tuple == nullptr) return false;
  const Py_ssize_t count = PyTuple_GET_SIZE(tuple);
  views_.reserve(static_cast<std::size_t>(count));
  slices_.reserve(static_cast<std::size_t>(count));
  bool is_good = true;
  for (Py_ssize_t i = 0; i < count && is_good; ++i) {
    is_good = take_pieces(PyTuple_GET_ITEM(tuple, i), {name, i}, access);
  }
  Py_DECREF(tuple);  // The exports hold their objects.
  return is_good;
}

bool Arguments::take_pieces(PyObject* object, ArgumentName name, Access access) {
  if (PyList_Check(object) || PyTuple_Check(object)) {
    count_pieces();
    // A copy, because an exporter's own code might change a list.
    const Reference pieces = Reference::steal(PySequence_Tuple(object));
    if (!pieces) return false;
    const Py_ssize_t count = PyTuple_GET_SIZE(pieces.get());
    if (count == 0) {
      PyErr_Format(PyExc_ValueError, "%s: an empty %s, wanted a buffer, or 1 or more pieces of one",
                   name.text().c_str(), type_name(object));
      return false;
    }
    for (name.piece = 0; name.piece < count; ++name.piece) {
      if (!take_buffer(PyTuple_GET_ITEM(pieces.get(), name.piece), name, access)) return false;
    }
  } else if (addresses_in(object) != nullptr) {
    count_pieces();
    if (!take_addresses(object, name)) return false;
  } else if (!take_buffer(object, name, access)) {
    return false;
  }
  if (has_pieces_) ends_.push_back(slices_.size());
  return true;
}

void Arguments::count_pieces() {
  if (has_pieces_) return;
  has_pieces_ = true;
  for (std::size_t i = 1; i <= slices_.size(); ++i) ends_.push_back(i);
}

bool Arguments::take_addresses(PyObject* object, const ArgumentName& name) {
  const auto slices = addresses_in(object)->slices();
  if (slices.empty() && name.index >= 0) {
    PyErr_Format(PyExc_ValueError, "%s: Addresses of no piece, wanted 1 or more",
                 name.text().c_str());
    return false;
  }
  owners_.push_back(Reference::borrow(object));
  slices_.insert(slices_.end(), slices.begin(), slices.end());
  return true;
}

bool Arguments::deal_out(const char* name) {
  const std::size_t keys = key_bytes_.size();
  const std::size_t each = keys == 0 ? 0 : slices_.size() / keys;
  if (each * keys != slices_.size() || (each == 0 && keys > 0)) {
    PyErr_Format(PyExc_ValueError,
                 "keys and %s: %zu keys, Addresses of %zu pieces; wanted as many pieces for each "
                 "key, 1 or more",
                 name, keys, slices_.size());
    return false;
  }
  for (std::size_t end = each; each > 0 && end <= slices_.size(); end += each) ends_.push_back(end);
  return true;
}

bool Arguments::take_buffer(PyObject* object, const ArgumentName& name, Access access) {
  if (PyObject_CheckBuffer(object) == 0 && is_tensor(object)) {
    return take_tensor(object, name, access);
  }
  Py_buffer view{};
  const int flags = access == Access::kWrite ? PyBUF_FULL : PyBUF_FULL_RO;
  if (PyObject_GetBuffer(object, &view, flags) != 0) {
    return refuse_object(object, name, access);
  }
  const bool is_contiguous = view.suboffsets == nullptr && PyBuffer_IsContiguous(&view, 'C') != 0;
  const bool is_good = is_contiguous && !has_objects(view.format);
  if (!is_good) {
    if (is_contiguous) {
      refuse_objects(object, name);
    } else {
      refuse_shape(view, object, name, access);
    }
    PyBuffer_Release(&view);
    return false;
  }
  views_.push_back(view);
  slices_.push_back({static_cast<std::byte*>(view.buf), static_cast<std::size_t>(view.len)});
  return true;
}

bool Arguments::take_tensor(PyObject* object, const ArgumentName& name, Access access) {
  Slice memory;
  Reference storage;
  if (!memory_of_tensor(object, name, access, memory, storage)) return false;
  owners_.push_back(std::move(storage));
  slices_.push_back(memory);
  return true;
}

void Arguments::add_owned(PyObject* owned, std::byte* data, std::size_t bytes) {
  owned_ = owned;
  slices_.push_back({data, bytes});
}

}  // namespace larder::python
