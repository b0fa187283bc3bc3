#include "module/front/requests.h"

#include <algorithm>
#include <string>

namespace larder::python {
namespace nb = nanobind;
namespace {

/// ValueError unless there is one value for each key; `buffers` is the argument's name.
void check_counts(const Arguments& arguments, const char* buffers) {
  if (arguments.keys().size() == arguments.value_count()) return;
  PyErr_Format(PyExc_ValueError, "keys and %s: %zu keys, %zu %s; wanted one for each key", buffers,
               arguments.keys().size(), arguments.value_count(), buffers);
  throw nb::python_error();
}

/// Of keys and values that the operation has.
void prepare_store(PythonOperation& operation, bool replaces, std::uint64_t deadline_ns) {
  operation.prepare(Op::kSet, deadline_ns);
  operation.batch.set_mode = replaces ? SetMode::kReplace : SetMode::kIfAbsent;
  operation.batch.urgency = Urgency::kStore;
}

}  // namespace

std::uint64_t deadline_after(nb::handle timeout) {
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  return deadline_ns;
}

Urgency urgency_or(nb::handle value, Urgency none) {
  Urgency urgency = none;
  throw_unless(urgency_of(value.ptr(), urgency));
  return urgency;
}

void request(PythonOperation& operation, Op op, nb::handle keys, std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_keys(keys.ptr(), "keys"));
  operation.prepare(op, deadline_ns);
}

void request_places(PythonOperation& operation, nb::handle keys, std::uint64_t deadline_ns) {
  request(operation, Op::kExists, keys, deadline_ns);
  operation.batch.wants_places = true;
}

void request_size(PythonOperation& operation, nb::handle key, std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_key(key.ptr()));
  operation.prepare(Op::kExists, deadline_ns);
}

void request_load(PythonOperation& operation, nb::handle keys, nb::handle buffers,
                  std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_keys(keys.ptr(), "keys") &&
               operation.arguments.take_buffers(buffers.ptr(), "buffers", Access::kWrite));
  check_counts(operation.arguments, "buffers");
  operation.prepare(Op::kGet, deadline_ns);
}

void request_load_of_one(PythonOperation& operation, nb::handle key, std::uint64_t room,
                         std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_key(key.ptr()));
  PyObject* const value = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room));
  throw_unless(value != nullptr);
  operation.arguments.add_owned(value, reinterpret_cast<std::byte*>(PyBytes_AS_STRING(value)),
                                static_cast<std::size_t>(room));
  operation.prepare(Op::kGet, deadline_ns);
  operation.batch.allow_shorter = true;  // It may have been replaced since its size was asked.
}

void request_store(PythonOperation& operation, nb::handle keys, nb::handle values, bool replaces,
                   std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_keys(keys.ptr(), "keys") &&
               operation.arguments.take_buffers(values.ptr(), "values", Access::kRead));
  check_counts(operation.arguments, "values");
  prepare_store(operation, replaces, deadline_ns);
}

void request_store_of_one(PythonOperation& operation, nb::handle key, nb::handle value,
                          bool replaces, std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_key(key.ptr()) &&
               operation.arguments.take_value(value.ptr()));
  prepare_store(operation, replaces, deadline_ns);
}

void request_hint(PythonOperation& operation, nb::handle keys, nb::handle hint, nb::handle ttl,
                  std::uint64_t deadline_ns) {
  throw_unless(operation.arguments.take_keys(keys.ptr(), "keys"));
  std::string name;
  double seconds = 0;
  throw_unless(text_of(hint.ptr(), "hint", name));
  const auto found = std::ranges::find(kHintNames, name);
  const auto index = static_cast<std::size_t>(found - kHintNames.begin());
  if (found == kHintNames.end() || index == 0) {
    PyErr_Format(PyExc_ValueError, "hint: '%s', wanted prefetch, pin, retain or release",
                 name.c_str());
    throw nb::python_error();
  }
  operation.prepare(Op::kTouch, deadline_ns);
  operation.batch.hint = static_cast<Hint>(index);
  // Results that no caller waits for make room for loads.
  if (operation.batch.hint == Hint::kPrefetch || operation.batch.hint == Hint::kPin) {
    operation.batch.urgency = Urgency::kPrefetch;
  }
  if (!is_held(operation.batch.hint)) return;
  constexpr double kMost = static_cast<double>(kHoldNsMax) / 1e9;
  throw_unless(
      seconds_of(ttl.ptr(), {.name = "ttl", .most = kMost, .allows_none = false}, seconds));
  operation.batch.hold_ns = ns_of(seconds);
}

}  // namespace larder::python
