#pragma once

#include "module/front/handle.h"
#include "module/front/nanobind.h"
#include "module/front/values.h"

namespace larder::python {

/// The Python form of a finished operation, for every class that returns it. With the GIL; each
/// returns a new object or throws nanobind::python_error.

/// (hits, failed, sizes, errors), a list each.
nanobind::object loads_of(const PythonOperation& operation);
/// (stored, existed, failed, errors), a list each.
nanobind::object stores_of(const PythonOperation& operation);
/// A list of sizes, None for a key without a value.
nanobind::object sizes_of(const PythonOperation& operation);
/// (size or None, error or None) for a lookup of one key.
nanobind::object size_of_one(const PythonOperation& operation);
/// Like loads_of(), for a lookup, and then how long loading its hits would take: seconds, or None.
nanobind::object lookups_of(const PythonOperation& operation);
/// (done, failed, errors, a text where the connector does not have the hint, or None).
nanobind::object touches_of(const PythonOperation& operation);
/// Seconds, or None for kNever.
nanobind::object seconds_or_none(std::uint64_t duration_ns);
/// Estimates how long loading the hits of the lookup would take now, if it asked for that.
void note_load_ns(PythonOperation& operation, const Handle& handle);
/// A list of bools.
nanobind::object existence_of(const PythonOperation& operation);
/// (deleted, errors), a list each.
nanobind::object deletions_of(const PythonOperation& operation);
/// (bytes or None, error or None, room or 0) of an operation that loaded one key into an owned
/// bytes object; the room is that of room_after().
nanobind::object value_of(const PythonOperation& operation);
/// The bytes of the same, or None.
nanobind::object bytes_of_load(const PythonOperation& operation);
/// ([(key, size), ...], (first word, second word), done): of a page of a store's keys those that
/// begin with `prefix`. May wait, without the GIL.
nanobind::object page_of(const Handle& handle, nanobind::handle first_word,
                         nanobind::handle second_word, nanobind::handle keys_max,
                         nanobind::handle prefix);
/// The same keys, removed: (how many there were, how many failed, first failure or None, (first
/// word, second word), done). Waits, without the GIL.
nanobind::object deleted_page_of(Handle& handle, nanobind::handle first_word,
                                 nanobind::handle second_word, nanobind::handle keys_max,
                                 nanobind::handle prefix, nanobind::handle timeout);
/// A store's state: a dictionary of plain values.
nanobind::object report_of(const Handle& handle);

/// The hints that the store carries out, by name: a list.
nanobind::object hints_of(const Handle& handle);

/// Opens a store by a str. Throws nanobind::python_error.
std::shared_ptr<Handle> open_handle(nanobind::handle spec,
                                    const doors::SessionOptions& options = {},
                                    std::uint64_t end_grace_ns = Handle::kEndGraceNs);
/// For every open store of this process, in Prometheus' text format.
nanobind::object metrics_text();
/// How long loading so many values of so many bytes would take from the quickest open store of this
/// process, by the slowest of its places that is known; None if none is.
nanobind::object seconds_to_load(std::uint64_t values, std::uint64_t bytes);

/// How much room the next attempt needs when a value did not fit because it was replaced by a
/// larger one since its size was asked; 0: the failure is final. At least twice the last room, so
/// that a writer of growing values cannot keep a reader busy for ever.
std::uint64_t room_after(const Item& item, std::uint64_t room) noexcept;

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

/// A str of UTF-8 with replacements. nullptr with an exception set.
PyObject* new_text(const std::string& text);

nanobind::object tuple_of(std::initializer_list<nanobind::object> members);

}  // namespace larder::python
