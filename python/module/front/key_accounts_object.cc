#include "module/front/key_accounts_object.h"

#include <utility>

#include "module/front/results.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

using Change = doors::KeyAccounts::Change;
using Changes = doors::KeyAccounts::Changes;

[[noreturn]] void refuse(const char* name, const char* wanted) {
  PyErr_Format(PyExc_TypeError, "%s: wanted a list of tuples %s", name, wanted);
  throw nb::python_error();
}

bool read_key(PyObject* object, std::string_view& key) {
  if (!PyBytes_Check(object)) return false;
  key = {PyBytes_AS_STRING(object), static_cast<std::size_t>(PyBytes_GET_SIZE(object))};
  return true;
}

bool read_number(PyObject* object, std::uint64_t& number) {
  if (!PyLong_Check(object)) return false;
  number = PyLong_AsUnsignedLongLong(object);
  return !PyErr_Occurred();
}

/// One key of an argument. The key points into the Python object.
struct Told {
  bool is_stored = true;
  std::string_view key;
  std::uint64_t bytes = 0;
};

/// Reads tuples that end with a key and a number. `keeper` keeps them alive.
std::vector<Told> read_told(nb::handle list, bool has_kind, const char* name, const char* wanted,
                            Reference& keeper) {
  keeper = Reference::steal(PySequence_Tuple(list.ptr()));
  throw_unless(static_cast<bool>(keeper));
  const Py_ssize_t count = PyTuple_GET_SIZE(keeper.get());
  const Py_ssize_t key_at = has_kind ? 1 : 0;
  std::vector<Told> told(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const entry = PyTuple_GET_ITEM(keeper.get(), i);
    if (!PyTuple_Check(entry) || PyTuple_GET_SIZE(entry) != key_at + 2) refuse(name, wanted);
    Told& read = told[static_cast<std::size_t>(i)];
    if (has_kind) {
      PyObject* const kind = PyTuple_GET_ITEM(entry, 0);
      if (!PyBool_Check(kind)) refuse(name, wanted);
      read.is_stored = kind == Py_True;
    }
    if (!read_key(PyTuple_GET_ITEM(entry, key_at), read.key) ||
        !read_number(PyTuple_GET_ITEM(entry, key_at + 1), read.bytes)) {
      throw_unless(PyErr_Occurred() == nullptr);
      refuse(name, wanted);
    }
  }
  return told;
}

PyObject* new_key(const std::string& key) {
  return PyBytes_FromStringAndSize(key.data(), static_cast<Py_ssize_t>(key.size()));
}

/// Joins neighbours of one kind into one entry.
nb::object list_of_changes(const Changes& changes) {
  nb::list made;
  for (std::size_t begin = 0, end = 0; begin < changes.size(); begin = end) {
    while (end < changes.size() && changes[end].is_stored == changes[begin].is_stored) ++end;
    made.append(nb::make_tuple(
        changes[begin].is_stored,
        list_of(end - begin, [&](std::size_t i) { return new_key(changes[begin + i].key); }),
        list_of(end - begin, [&](std::size_t i) {
          return PyLong_FromUnsignedLongLong(changes[begin + i].bytes);
        })));
  }
  return made;
}

[[noreturn]] void refuse_without_scan(const char* method) {
  PyErr_Format(PyExc_RuntimeError, "%s() without begin_scan()", method);
  throw nb::python_error();
}

}  // namespace

nb::object KeyAccountsObject::apply(nb::handle happened) {
  Reference keeper;
  const std::vector<Told> told =
      read_told(happened, true, "happened", "(was stored, key, bytes)", keeper);
  Changes changes;
  if (!told.empty()) {
    const WithoutGil without_gil;
    const MutexLock lock{mutex_};
    for (const Told& each : told) {
      if (each.is_stored) {
        accounts_.stored(each.key, each.bytes, changes);
      } else {
        accounts_.removed(each.key, changes);
      }
    }
  }
  return list_of_changes(changes);
}

void KeyAccountsObject::begin_scan() {
  const WithoutGil without_gil;
  const MutexLock lock{mutex_};
  accounts_.begin_scan();
}

void KeyAccountsObject::give_up_scan() {
  const WithoutGil without_gil;
  const MutexLock lock{mutex_};
  accounts_.give_up_scan();
}

nb::object KeyAccountsObject::scanned(nb::handle page) {
  Reference keeper;
  const std::vector<Told> told = read_told(page, false, "page", "(key, bytes)", keeper);
  Changes changes;
  bool is_scanning = false;
  {
    const WithoutGil without_gil;
    const MutexLock lock{mutex_};
    is_scanning = accounts_.is_scanning();
    for (std::size_t i = 0; is_scanning && i < told.size(); ++i) {
      accounts_.scanned(told[i].key, told[i].bytes, changes);
    }
  }
  if (!is_scanning) refuse_without_scan("scanned");
  return list_of_changes(changes);
}

nb::object KeyAccountsObject::end_scan() {
  Changes changes;
  bool is_scanning = false;
  {
    const WithoutGil without_gil;
    const MutexLock lock{mutex_};
    is_scanning = accounts_.is_scanning();
    if (is_scanning) accounts_.end_scan(changes);
  }
  if (!is_scanning) refuse_without_scan("end_scan");
  return list_of_changes(changes);
}

doors::KeyAccounts::Totals KeyAccountsObject::totals() const {
  const WithoutGil without_gil;
  const MutexLock lock{mutex_};
  return accounts_.totals();
}

doors::KeyAccounts::Totals KeyAccountsObject::foreign() const {
  const WithoutGil without_gil;
  const MutexLock lock{mutex_};
  return accounts_.foreign();
}

bool KeyAccountsObject::contains(nb::handle key) const {
  std::string_view name;
  if (!read_key(key.ptr(), name)) {
    PyErr_Format(PyExc_TypeError, "key: %s, wanted bytes", Py_TYPE(key.ptr())->tp_name);
    throw nb::python_error();
  }
  const WithoutGil without_gil;
  const MutexLock lock{mutex_};
  return accounts_.contains(name);
}

nb::object KeyAccountsObject::items() const {
  Changes there;
  {
    const WithoutGil without_gil;
    const MutexLock lock{mutex_};
    there.reserve(accounts_.totals().keys);
    accounts_.for_each([&](std::string key, std::uint64_t bytes) {
      there.push_back({true, std::move(key), bytes});
    });
  }
  return list_of(there.size(), [&](std::size_t i) {
    return Py_BuildValue("(NK)", new_key(there[i].key),
                         static_cast<unsigned long long>(there[i].bytes));
  });
}

void add_key_accounts(nb::module_& module) {
  nb::class_<KeyAccountsObject>(module, "KeyAccounts")
      .def(nb::init<>())
      .def("apply", &KeyAccountsObject::apply, nb::arg("happened"))
      .def("begin_scan", &KeyAccountsObject::begin_scan)
      .def("give_up_scan", &KeyAccountsObject::give_up_scan)
      .def("scanned", &KeyAccountsObject::scanned, nb::arg("page"))
      .def("end_scan", &KeyAccountsObject::end_scan)
      .def("items", &KeyAccountsObject::items)
      .def("__len__", &KeyAccountsObject::keys)
      .def("__contains__", &KeyAccountsObject::contains, nb::arg("key"))
      .def_prop_ro("bytes_used", &KeyAccountsObject::bytes_used)
      .def_prop_ro("foreign_keys", &KeyAccountsObject::foreign_keys)
      .def_prop_ro("foreign_bytes", &KeyAccountsObject::foreign_bytes);
}

}  // namespace larder::python
