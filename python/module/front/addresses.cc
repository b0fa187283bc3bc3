#include "module/front/addresses.h"

#include <limits>
#include <string>

#include "module/front/results.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

/// A tuple of the elements of `object`, a sequence or another iterable.
Reference tuple_of_numbers(PyObject* object, const char* name) {
  Reference tuple;
  if (!PyUnicode_Check(object) && !PyBytes_Check(object)) {
    tuple = Reference::steal(PySequence_Tuple(object));
    if (!tuple && PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw nb::python_error();
  }
  if (tuple) return tuple;
  PyErr_Clear();
  PyErr_Format(PyExc_TypeError, "%s: %s, wanted a list of ints", name, Py_TYPE(object)->tp_name);
  throw nb::python_error();
}

std::uint64_t number_at(PyObject* tuple, Py_ssize_t index, const char* name) {
  PyObject* const member = PyTuple_GET_ITEM(tuple, index);
  if (PyLong_CheckExact(member)) {
    const unsigned long long number = PyLong_AsUnsignedLongLong(member);
    if (number != std::numeric_limits<unsigned long long>::max()) return number;
    PyErr_Clear();
  }
  std::uint64_t number = 0;
  throw_unless(
      unsigned_of(member, (std::string{name} + '[' + std::to_string(index) + ']').c_str(), number));
  return number;
}

int visit_owner(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<Addresses>(self)->owner());
  return 0;
}

int clear_owner(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Addresses>(self)->let_go();
  return 0;
}

}  // namespace

Addresses::Addresses(nb::handle pointers, nb::handle sizes, nb::handle owner)
    : owner_(Reference::borrow(owner.is_none() ? nullptr : owner.ptr())) {
  const Reference all_pointers = tuple_of_numbers(pointers.ptr(), "pointers");
  const Py_ssize_t count = PyTuple_GET_SIZE(all_pointers.get());
  const bool has_one_size = PyIndex_Check(sizes.ptr()) != 0;
  Reference all_sizes;
  std::uint64_t bytes = 0;
  if (has_one_size) {
    throw_unless(unsigned_of(sizes.ptr(), "sizes", bytes));
  } else {
    all_sizes = tuple_of_numbers(sizes.ptr(), "sizes");
    if (PyTuple_GET_SIZE(all_sizes.get()) != count) {
      PyErr_Format(PyExc_ValueError,
                   "pointers and sizes: %zd pointers, %zd sizes; wanted as many, or one int", count,
                   PyTuple_GET_SIZE(all_sizes.get()));
      throw nb::python_error();
    }
  }
  slices_.reserve(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    const std::uint64_t address = number_at(all_pointers.get(), i, "pointers");
    if (!has_one_size) bytes = number_at(all_sizes.get(), i, "sizes");
    if (bytes > 0 &&
        (address == 0 || address > std::numeric_limits<std::uint64_t>::max() - bytes)) {
      PyErr_Format(
          PyExc_ValueError, "pointers[%zd]: %llu with a size of %llu; no memory can be there", i,
          static_cast<unsigned long long>(address), static_cast<unsigned long long>(bytes));
      throw nb::python_error();
    }
    slices_.push_back({reinterpret_cast<std::byte*>(address), static_cast<std::size_t>(bytes)});
  }
}

const Addresses* addresses_in(PyObject* object) {
  const nb::handle given{object};
  return nb::isinstance<Addresses>(given) && nb::inst_ready(given) ? nb::inst_ptr<Addresses>(given)
                                                                   : nullptr;
}

void add_addresses(nb::module_& module) {
  static PyType_Slot slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(visit_owner)},
                                {Py_tp_clear, reinterpret_cast<void*>(clear_owner)},
                                {0, nullptr}};
  nb::class_<Addresses>(module, "Addresses", nb::type_slots(slots))
      .def(nb::init<nb::handle, nb::handle, nb::handle>(), nb::arg("pointers").none(),
           nb::arg("sizes").none(), nb::arg("owner").none())
      .def("__len__", [](const Addresses& self) { return self.slices().size(); })
      .def_prop_ro("bytes", &Addresses::bytes);
}

}  // namespace larder::python
