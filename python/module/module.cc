// The extension module larder._larder: argument checks, and the GIL given back. What it does is
// documented in python/larder, where people look.
#include "module/async_client.h"
#include "module/client.h"
#include "module/completions.h"
#include "module/nanobind.h"
#include "module/python_registry.h"

namespace nb = nanobind;
using larder::python::AsyncClient;
using larder::python::Client;
using larder::python::Completions;
using larder::python::Handle;

namespace {

PyObject* new_exception(nb::module_& module, const char* name, const char* document,
                        const nb::object& bases) {
  const std::string full = std::string{"larder."} + name;
  PyObject* const made = PyErr_NewExceptionWithDoc(full.c_str(), document, bases.ptr(), nullptr);
  larder::python::throw_unless(made != nullptr);
  module.attr(name) = nb::borrow(made);
  return made;  // One reference is kept for the process's life.
}

void add_exceptions(nb::module_& module) {
  auto& all = larder::python::exceptions;
  all.error = new_exception(module, "Error", "What larder raises; its children say more.",
                            nb::borrow(PyExc_RuntimeError));
  const nb::object error = nb::borrow(all.error);
  all.closed = new_exception(module, "ClosedError", "The store was closed.", error);
  all.forked = new_exception(module, "ForkedError",
                             "The store was opened by the parent process, before fork().", error);
  all.open = new_exception(module, "OpenError", "The store could not be opened; the text says why.",
                           nb::make_tuple(error, nb::borrow(PyExc_ValueError)));
  all.stuck = new_exception(
      module, "StuckError",
      "The kernel or a peer still has what was asked of it. The buffers are kept alive until then.",
      nb::make_tuple(error, nb::borrow(PyExc_TimeoutError)));
}

}  // namespace

NB_MODULE(_larder, module) {
  larder::python::enter_interpreter();
  // At exit a daemon thread may still hold objects; that is no leak of ours.
  nb::set_leak_warnings(false);
  add_exceptions(module);
  module.attr("version") = LARDER_VERSION;

  nb::class_<Client>(module, "Client")
      .def(nb::init<const std::string&>(), nb::arg("spec"))
      .def("get_into", &Client::get_into, nb::arg("keys"), nb::arg("buffers"),
           nb::arg("timeout").none())
      .def("get", &Client::get, nb::arg("key"), nb::arg("timeout").none())
      .def("set_many", &Client::set_many, nb::arg("keys"), nb::arg("values"), nb::arg("replaces"),
           nb::arg("timeout").none())
      .def("sizes", &Client::sizes, nb::arg("keys"), nb::arg("timeout").none())
      .def("exists", &Client::exists, nb::arg("keys"), nb::arg("timeout").none())
      .def("delete", &Client::remove, nb::arg("keys"), nb::arg("timeout").none())
      .def("scan", &Client::scan, nb::arg("first_word"), nb::arg("second_word"),
           nb::arg("keys_max"))
      .def("report", &Client::report)
      .def("close", &Client::close, nb::arg("grace"), nb::arg("timeout"))
      .def_prop_ro("closed", &Client::is_closed);

  nb::class_<Completions>(module, "Completions")
      .def(nb::init<const std::string&, double, double, double>(), nb::arg("spec"),
           nb::arg("load_timeout"), nb::arg("store_timeout"), nb::arg("lookup_timeout"))
      .def("event_fd", &Completions::event_fd)
      .def("submit_batch_get", &Completions::submit_batch_get, nb::arg("keys"),
           nb::arg("memoryviews"))
      .def("submit_batch_set", &Completions::submit_batch_set, nb::arg("keys"),
           nb::arg("memoryviews"))
      .def("submit_batch_exists", &Completions::submit_batch_exists, nb::arg("keys"))
      .def("submit_batch_delete", &Completions::submit_batch_delete, nb::arg("keys"))
      .def("drain_completions", &Completions::drain_completions)
      .def("submit_batch_touch", &Completions::submit_batch_touch, nb::arg("keys"))
      .def("drain_outcomes", &Completions::drain_outcomes)
      .def("events", &Completions::events, nb::arg("position"), nb::arg("events_max"))
      .def("scan", &Completions::scan, nb::arg("first_word"), nb::arg("second_word"),
           nb::arg("keys_max"))
      .def("report", &Completions::report)
      .def("close", &Completions::close, nb::arg("grace") = 10.0, nb::arg("timeout") = 30.0)
      .def_prop_ro("closed", &Completions::is_closed);

  nb::class_<AsyncClient>(module, "AsyncClient")
      .def(nb::init<const std::string&>(), nb::arg("spec"))
      .def("event_fd", &AsyncClient::event_fd)
      .def("submit_get_into", &AsyncClient::submit_get_into, nb::arg("id"), nb::arg("keys"),
           nb::arg("buffers"), nb::arg("timeout").none())
      .def("submit_get", &AsyncClient::submit_get, nb::arg("id"), nb::arg("key"), nb::arg("size"),
           nb::arg("timeout").none())
      .def("submit_set_many", &AsyncClient::submit_set_many, nb::arg("id"), nb::arg("keys"),
           nb::arg("values"), nb::arg("replaces"), nb::arg("timeout").none())
      .def("submit_sizes", &AsyncClient::submit_sizes, nb::arg("id"), nb::arg("keys"),
           nb::arg("timeout").none())
      .def("submit_exists", &AsyncClient::submit_exists, nb::arg("id"), nb::arg("keys"),
           nb::arg("timeout").none())
      .def("submit_delete", &AsyncClient::submit_delete, nb::arg("id"), nb::arg("keys"),
           nb::arg("timeout").none())
      .def("cancel", &AsyncClient::cancel, nb::arg("id"))
      .def("drain", &AsyncClient::drain)
      .def("scan", &AsyncClient::scan, nb::arg("first_word"), nb::arg("second_word"),
           nb::arg("keys_max"))
      .def("report", &AsyncClient::report)
      .def("close", &AsyncClient::close, nb::arg("grace"), nb::arg("timeout"))
      .def_prop_ro("closed", &AsyncClient::is_closed);

  nb::list types;
  for (const larder::ConnectorType* type : larder::python::python_registry().types()) {
    types.append(nb::str(type->name.data(), type->name.size()));
  }
  module.attr("connector_types") = nb::tuple(types);

  nb::module_::import_("atexit").attr("register")(nb::cpp_function([] { Handle::close_all(); }));
}
