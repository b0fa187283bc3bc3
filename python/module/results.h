#pragma once

#include "module/handle.h"
#include "module/nanobind.h"

namespace larder::python {

/// What Python gets of a finished operation, for every class that gives it. With the GIL; each
/// returns a new object or throws nanobind::python_error.

/// (hits, failed, sizes, errors), a list each.
nanobind::object loads_of(const PythonOperation& operation);
/// (stored, existed, failed, errors), a list each.
nanobind::object stores_of(const PythonOperation& operation);
/// A list of sizes, None for a key without a value.
nanobind::object sizes_of(const PythonOperation& operation);
/// A list of bools.
nanobind::object existence_of(const PythonOperation& operation);
/// (deleted, errors), a list each.
nanobind::object deletions_of(const PythonOperation& operation);
/// (bytes or None, error or None) of an operation that loaded one key into an owned bytes object.
nanobind::object value_of(const PythonOperation& operation);
/// ([(key, size), ...], (first word, second word), done): a page of a store's keys. May wait,
/// without the GIL.
nanobind::object page_of(const Handle& handle, std::uint64_t first_word, std::uint64_t second_word,
                         std::size_t keys_max);
/// A store's state: a dictionary of plain values.
nanobind::object report_of(const Handle& handle);

inline std::uint64_t ns_of(double seconds) noexcept {
  if (!(seconds > 0)) return 0;
  return seconds > 1e9 ? kNever : static_cast<std::uint64_t>(seconds * 1e9);
}

inline void throw_unless(bool is_good) {
  if (!is_good) throw nanobind::python_error();
}

/// A list made of `count` new references.
template <class Make>
nanobind::object list_of(std::size_t count, Make&& make) {
  nanobind::object list = nanobind::steal(PyList_New(static_cast<Py_ssize_t>(count)));
  throw_unless(list.is_valid());
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* const member = make(i);
    throw_unless(member != nullptr);
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), member);
  }
  return list;
}

inline PyObject* new_bool(bool value) {
  return PyBool_FromLong(value ? 1 : 0);
}

nanobind::object tuple_of(std::initializer_list<nanobind::object> members);

/// ValueError unless there is one buffer for each key; `buffers` is the argument's name.
void check_counts(const Arguments& arguments, const char* buffers);

}  // namespace larder::python
