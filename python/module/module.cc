// The extension module larder._larder: argument checks, and the release of the GIL. python/larder
// documents its functions, because people look there.
#include "larder/connector/shown_spec.h"
#include "module/back/python_registry.h"
#include "module/front/addresses.h"
#include "module/front/async_client.h"
#include "module/front/client.h"
#include "module/front/completions.h"
#include "module/front/key_accounts_object.h"
#include "module/front/nanobind.h"
#include "module/front/server_command.h"

namespace nb = nanobind;
using larder::python::AsyncClient;
using larder::python::BatchClient;
using larder::python::Client;
using larder::python::Completions;
using larder::python::Handle;
using larder::python::throw_unless;

namespace {

PyObject* new_exception(nb::module_& module, const char* name, const char* document,
                        const nb::object& bases) {
  const std::string full = std::string{"larder."} + name;
  PyObject* const made = PyErr_NewExceptionWithDoc(full.c_str(), document, bases.ptr(), nullptr);
  throw_unless(made != nullptr);
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
  all.unsupported =
      new_exception(module, "UnsupportedError",
                    "The connector of this store cannot do that, for example list its keys.",
                    nb::make_tuple(error, nb::borrow(PyExc_NotImplementedError)));
}

/// The common methods of every class that is an open store.
template <class Class>
void add_pages_and_report(nb::class_<Class>& made) {
  made.def("_scan_page", &Class::scan, nb::arg("first_word").none(), nb::arg("second_word").none(),
           nb::arg("keys_max").none(), nb::arg("prefix").none())
      .def("_delete_page", &Class::delete_page, nb::arg("first_word").none(),
           nb::arg("second_word").none(), nb::arg("keys_max").none(), nb::arg("prefix").none(),
           nb::arg("timeout").none())
      .def("report", &Class::report)
      .def_prop_ro("closed", &Class::is_closed);
}

/// The further common methods of classes whose calls return at once.
template <class Class>
void add_event_client(nb::class_<Class>& made) {
  add_pages_and_report(made);
  made.def("event_fd", &Class::event_fd)
      .def("cancel", &Class::cancel, nb::arg("id").none())
      .def("close", &Class::close, nb::arg("grace").none(), nb::arg("timeout").none());
}

BatchClient::Terms terms_of(nb::handle timeout, nb::handle deadline, nb::handle urgency,
                            nb::handle waits_for_room, nb::handle tag) {
  return {timeout, deadline, urgency, waits_for_room, tag};
}

std::uint64_t submit_get(BatchClient& client, nb::handle keys, nb::handle buffers,
                         nb::handle allow_shorter, nb::handle timeout, nb::handle deadline,
                         nb::handle urgency, nb::handle waits_for_room, nb::handle tag) {
  return client.submit_get(keys, buffers, allow_shorter,
                           terms_of(timeout, deadline, urgency, waits_for_room, tag));
}

std::uint64_t submit_set(BatchClient& client, nb::handle keys, nb::handle values, bool replaces,
                         nb::handle timeout, nb::handle deadline, nb::handle urgency,
                         nb::handle waits_for_room, nb::handle tag) {
  return client.submit_set(keys, values, replaces,
                           terms_of(timeout, deadline, urgency, waits_for_room, tag));
}

template <larder::Op op>
std::uint64_t submit_keys(BatchClient& client, nb::handle keys, nb::handle timeout,
                          nb::handle deadline, nb::handle urgency, nb::handle waits_for_room,
                          nb::handle tag) {
  return client.submit_keys(op, keys, terms_of(timeout, deadline, urgency, waits_for_room, tag));
}

std::uint64_t submit_exists(BatchClient& client, nb::handle keys, nb::handle timeout,
                            nb::handle deadline, nb::handle urgency, nb::handle waits_for_room,
                            nb::handle tag, nb::handle estimates) {
  return client.submit_exists(keys, estimates,
                              terms_of(timeout, deadline, urgency, waits_for_room, tag));
}

std::uint64_t submit_hint(BatchClient& client, nb::handle keys, nb::handle hint, nb::handle ttl,
                          nb::handle timeout, nb::handle deadline, nb::handle urgency,
                          nb::handle waits_for_room, nb::handle tag) {
  return client.submit_hint(keys, hint, ttl,
                            terms_of(timeout, deadline, urgency, waits_for_room, tag));
}

void add_batch_client(nb::module_& module) {
  nb::class_<BatchClient> made(module, "BatchClient");
  add_event_client(made);
  const auto add = [&](const char* name, auto submit) {
    made.def(name, submit, nb::arg("keys").none(), nb::arg("timeout").none(),
             nb::arg("deadline").none(), nb::arg("urgency").none(),
             nb::arg("waits_for_room").none(), nb::arg("tag").none());
  };
  made.def(nb::init<nb::handle>(), nb::arg("spec").none())
      .def("submit_get", &submit_get, nb::arg("keys").none(), nb::arg("buffers").none(),
           nb::arg("allow_shorter").none(), nb::arg("timeout").none(), nb::arg("deadline").none(),
           nb::arg("urgency").none(), nb::arg("waits_for_room").none(), nb::arg("tag").none())
      .def("submit_set", &submit_set, nb::arg("keys").none(), nb::arg("values").none(),
           nb::arg("replaces"), nb::arg("timeout").none(), nb::arg("deadline").none(),
           nb::arg("urgency").none(), nb::arg("waits_for_room").none(), nb::arg("tag").none())
      .def("probe", &BatchClient::probe, nb::arg("keys").none())
      .def("drain", &BatchClient::drain)
      .def("events", &BatchClient::events, nb::arg("position").none(),
           nb::arg("events_max").none());
  made.def("submit_exists", &submit_exists, nb::arg("keys").none(), nb::arg("timeout").none(),
           nb::arg("deadline").none(), nb::arg("urgency").none(), nb::arg("waits_for_room").none(),
           nb::arg("tag").none(), nb::arg("estimates").none())
      .def("_submit_hint", &submit_hint, nb::arg("keys").none(), nb::arg("hint").none(),
           nb::arg("ttl").none(), nb::arg("timeout").none(), nb::arg("deadline").none(),
           nb::arg("urgency").none(), nb::arg("waits_for_room").none(), nb::arg("tag").none())
      .def("_hints", &BatchClient::hints);
  add("submit_delete", &submit_keys<larder::Op::kDelete>);
  add("submit_touch", &submit_keys<larder::Op::kTouch>);
}

double seconds(nb::handle value, const char* name, double none, bool allows_zero) {
  double read = 0;
  throw_unless(larder::python::seconds_of(
      value.ptr(), {.name = name, .none = none, .allows_zero = allows_zero}, read));
  return read;
}

/// (type, {name: value}); the text between "type:" and '?' has the name "".
nb::tuple parse_spec(nb::handle spec) {
  std::string text;
  throw_unless(larder::python::text_of(spec.ptr(), "spec", text));
  const auto parsed = larder::Spec::parse(text);
  if (!parsed) {
    PyErr_SetString(larder::python::exceptions.open, parsed.error().text.c_str());
    throw nb::python_error();
  }
  nb::dict parameters;
  for (const auto& [name, value] : parsed->parameters()) {
    parameters[nb::str(name.data(), name.size())] = nb::str(value.data(), value.size());
  }
  return nb::make_tuple(parsed->type(), parameters);
}

std::string shown_spec(nb::handle spec) {
  std::string text;
  throw_unless(larder::python::text_of(spec.ptr(), "spec", text));
  return larder::shown_spec(text, larder::python::python_registry());
}

}  // namespace

NB_MODULE(_larder, module) {
  larder::python::enter_interpreter();
  // At exit a daemon thread may still hold objects; that is not a leak.
  nb::set_leak_warnings(false);
  add_exceptions(module);
  module.attr("version") = LARDER_VERSION;

  // Arguments of any type are taken, None too, and checked where the error can name them.
  larder::python::add_addresses(module);
  add_batch_client(module);

  nb::class_<Client> client(module, "Client");
  add_pages_and_report(client);
  client.def(nb::init<nb::handle>(), nb::arg("spec").none())
      .def("get_into", &Client::get_into, nb::arg("keys").none(), nb::arg("buffers").none(),
           nb::arg("urgency").none(), nb::arg("timeout").none())
      .def("get", &Client::get, nb::arg("key").none(), nb::arg("timeout").none())
      .def("set", &Client::set, nb::arg("key").none(), nb::arg("value").none(), nb::arg("replaces"),
           nb::arg("timeout").none())
      .def("set_many", &Client::set_many, nb::arg("keys").none(), nb::arg("values").none(),
           nb::arg("replaces"), nb::arg("urgency").none(), nb::arg("timeout").none())
      .def("sizes", &Client::sizes, nb::arg("keys").none(), nb::arg("timeout").none())
      .def("look_up", &Client::look_up_all, nb::arg("keys").none(), nb::arg("timeout").none())
      .def("hint", &Client::hint, nb::arg("keys").none(), nb::arg("hint").none(),
           nb::arg("ttl").none(), nb::arg("timeout").none())
      .def("_hints", &Client::hints)
      .def("exists", &Client::exists, nb::arg("keys").none(), nb::arg("timeout").none())
      .def("delete", &Client::remove, nb::arg("keys").none(), nb::arg("timeout").none())
      .def("close", &Client::close, nb::arg("timeout").none());

  nb::class_<Completions> completions(module, "Completions");
  add_event_client(completions);
  completions
      .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle>(), nb::arg("spec").none(),
           nb::arg("load_timeout").none(), nb::arg("store_timeout").none(),
           nb::arg("lookup_timeout").none())
      .def("submit_batch_get", &Completions::submit_batch_get, nb::arg("keys").none(),
           nb::arg("memoryviews").none(), nb::arg("id").none() = nb::none())
      .def("submit_batch_set", &Completions::submit_batch_set, nb::arg("keys").none(),
           nb::arg("memoryviews").none(), nb::arg("id").none() = nb::none())
      .def("submit_batch_exists", &Completions::submit_batch_exists, nb::arg("keys").none(),
           nb::arg("id").none() = nb::none())
      .def("submit_batch_delete", &Completions::submit_batch_delete, nb::arg("keys").none(),
           nb::arg("id").none() = nb::none())
      .def("drain_completions", &Completions::drain_completions)
      .def("submit_batch_sizes", &Completions::submit_batch_sizes, nb::arg("keys").none(),
           nb::arg("id").none() = nb::none())
      .def("submit_batch_touch", &Completions::submit_batch_touch, nb::arg("keys").none(),
           nb::arg("id").none() = nb::none())
      .def("drain", &Completions::drain)
      .def("events", &Completions::events, nb::arg("position").none(),
           nb::arg("events_max").none());

  nb::class_<AsyncClient> async_client(module, "AsyncClient");
  add_event_client(async_client);
  async_client.def(nb::init<nb::handle>(), nb::arg("spec").none())
      .def("submit_get_into", &AsyncClient::submit_get_into, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("buffers").none(), nb::arg("urgency").none(), nb::arg("timeout").none())
      .def("submit_get", &AsyncClient::submit_get, nb::arg("id"), nb::arg("key").none(),
           nb::arg("room"), nb::arg("timeout").none())
      .def("submit_set", &AsyncClient::submit_set, nb::arg("id"), nb::arg("key").none(),
           nb::arg("value").none(), nb::arg("replaces"), nb::arg("timeout").none())
      .def("submit_set_many", &AsyncClient::submit_set_many, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("values").none(), nb::arg("replaces"), nb::arg("urgency").none(),
           nb::arg("timeout").none())
      .def("submit_size", &AsyncClient::submit_size, nb::arg("id"), nb::arg("key").none(),
           nb::arg("timeout").none())
      .def("submit_sizes", &AsyncClient::submit_sizes, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("timeout").none())
      .def("submit_exists", &AsyncClient::submit_exists, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("timeout").none())
      .def("submit_look_up", &AsyncClient::submit_look_up, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("timeout").none())
      .def("submit_hint", &AsyncClient::submit_hint, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("hint").none(), nb::arg("ttl").none(), nb::arg("timeout").none())
      .def("_hints", &AsyncClient::hints)
      .def("submit_delete", &AsyncClient::submit_delete, nb::arg("id"), nb::arg("keys").none(),
           nb::arg("timeout").none())
      .def("drain", &AsyncClient::drain);

  larder::python::add_key_accounts(module);

  module.def("seconds_to_load", &larder::python::seconds_to_load, nb::arg("values"),
             nb::arg("bytes"));
  module.def("seconds", &seconds, nb::arg("value").none(), nb::arg("name"),
             nb::arg("none") = larder::python::kForEver, nb::arg("allows_zero") = false);
  module.def("parse_spec", &parse_spec, nb::arg("spec").none());
  module.def("metrics_text", &larder::python::metrics_text);
  module.def("shown_spec", &shown_spec, nb::arg("spec").none());
  module.def("run_server", &larder::python::run_server, nb::arg("argv"));

  nb::list types;
  for (const larder::ConnectorType* type : larder::python::python_registry().types()) {
    types.append(nb::str(type->name.data(), type->name.size()));
  }
  module.attr("connector_types") = nb::tuple(types);

  nb::module_::import_("atexit").attr("register")(nb::cpp_function([] { Handle::close_all(); }));
}
