#pragma once

#include "module/handle.h"
#include "module/nanobind.h"

namespace larder::python {

/// Calls that wait for their answer: what larder.Store is made of. Python sees
/// larder._larder.Client.
///
/// Each returns a new Python object or throws nanobind::python_error. Threads: any.
class Client {
 public:
  explicit Client(const std::string& spec);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// (hits, failed, sizes, errors), a list each.
  nanobind::object get_into(nanobind::handle keys, nanobind::handle buffers,
                            nanobind::handle timeout);
  /// bytes or None.
  nanobind::object get(nanobind::handle key, nanobind::handle timeout);
  /// (stored, existed, failed, errors), a list each.
  nanobind::object set_many(nanobind::handle keys, nanobind::handle values, bool replaces,
                            nanobind::handle timeout);
  /// A list of sizes, None for a miss.
  nanobind::object sizes(nanobind::handle keys, nanobind::handle timeout);
  /// A list of bools.
  nanobind::object exists(nanobind::handle keys, nanobind::handle timeout);
  /// (deleted, errors), a list each.
  nanobind::object remove(nanobind::handle keys, nanobind::handle timeout);
  /// ([(key, size), ...], cursor, done).
  nanobind::object scan(std::uint64_t first_word, std::uint64_t second_word, std::size_t keys_max);
  nanobind::object report() const;
  void close(double grace_s, double timeout_s);
  bool is_closed() const noexcept { return handle_->is_closed(); }

 private:
  std::unique_ptr<PythonOperation> look_up(nanobind::handle keys, nanobind::handle timeout);

  std::shared_ptr<Handle> handle_;
};

inline std::uint64_t ns_of(double seconds) noexcept {
  if (!(seconds > 0)) return 0;
  return seconds > 1e9 ? kNever : static_cast<std::uint64_t>(seconds * 1e9);
}

/// A dictionary of plain values.
nanobind::object report_of(const Handle& handle);

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

/// The items' outcomes as bools.
inline nanobind::object outcomes_of(const Batch& batch, Outcome outcome) {
  return list_of(batch.items.size(),
                 [&](std::size_t i) { return new_bool(batch.items[i].outcome == outcome); });
}

}  // namespace larder::python
