#include "module/back/python_object.h"

#include "larder/base/clock.h"
#include "module/common/python_error.h"

namespace larder::python {
namespace {

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// The attribute, or empty when the object has none. An attribute that raises counts as none.
Reference attribute_of(PyObject* object, const char* name) {
  Reference value = Reference::steal(PyObject_GetAttrString(object, name));
  if (!value) PyErr_Clear();
  return value;
}

template <class Number>
SetupStatus read_number(PyObject* object, const char* name, Number least, Number most,
                        Number& number) {
  const Reference value = attribute_of(object, name);
  if (!value) return {};
  const bool is_integer = PyLong_Check(value.get()) && !PyBool_Check(value.get());
  const unsigned long long read = is_integer ? PyLong_AsUnsignedLongLong(value.get()) : 0;
  const bool has_failed = !is_integer || PyErr_Occurred() != nullptr;
  PyErr_Clear();
  if (has_failed || read < least || read > most) {
    const Reference shown = Reference::steal(PyObject_Repr(value.get()));
    const char* const text = shown ? PyUnicode_AsUTF8(shown.get()) : nullptr;
    PyErr_Clear();
    return wrong(std::string{"its attribute "} + name + " is " + (text == nullptr ? "?" : text) +
                 "; wanted an int from " + std::to_string(least) + " to " + std::to_string(most));
  }
  number = static_cast<Number>(read);
  return {};
}

SetupStatus read_locality(PyObject* object, Locality& locality) {
  const Reference value = attribute_of(object, "locality");
  if (!value) return {};
  const char* const text = PyUnicode_Check(value.get()) ? PyUnicode_AsUTF8(value.get()) : nullptr;
  PyErr_Clear();
  std::string known;
  for (const Locality one : {Locality::kMemory, Locality::kLocalDisk, Locality::kSharedFiles,
                             Locality::kRemote, Locality::kOtherProcess}) {
    if (text != nullptr && name_of(one) == text) {
      locality = one;
      return {};
    }
    known += (known.empty() ? "'" : ", '") + name_of(one) + "'";
  }
  return wrong("its attribute locality is " +
               (text == nullptr ? "no str" : "'" + std::string{text} + "'") + "; wanted one of " +
               known);
}

}  // namespace

Error ObjectLog::note(const Error& error) noexcept {
  errors_total_.fetch_add(1, std::memory_order_relaxed);
  if (const auto left_out = limiter_.allow(RealClock::instance().now_ns()); left_out) {
    std::string text = error.to_string();
    if (*left_out > 0)
      text += " (and " + std::to_string(*left_out) + " others since the last line)";
    log(LogLevel::kWarning, "python", text);
  }
  return error;
}

Error ObjectLog::note_kept_view(std::string_view method) noexcept {
  count_kept_view();
  return note(error_of_text(
      ErrorCode::kInternal,
      std::string{method} +
          "() kept a view of the buffer after it had returned; it is only lent for the call: copy "
          "it, as in bytes(data)"));
}

void ObjectLog::append_counters(Report& report) const {
  report.counters.push_back({"method_errors_total", errors_total_.load()});
  report.counters.push_back({"views_kept_total", views_kept_total_.load()});
}

Reference method_of(PyObject* object, const char* name) {
  Reference method = attribute_of(object, name);
  return method && PyCallable_Check(method.get()) != 0 ? std::move(method) : Reference{};
}

Reference bytes_of_key(Key key) {
  return Reference::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(key.data()),
                                                    static_cast<Py_ssize_t>(key.size())));
}

Error wrong_result(std::string_view method, PyObject* result, std::string_view wanted) {
  const Reference shown = Reference::steal(PyObject_Repr(result));
  const char* const text = shown ? PyUnicode_AsUTF8(shown.get()) : nullptr;
  PyErr_Clear();
  std::string value = text == nullptr ? "?" : text;
  // A value, or something with an address in it, would make every text another one.
  if (value.size() > 40 || value.find(" at 0x") != std::string::npos) {
    value = std::string{"an object of type "} + Py_TYPE(result)->tp_name;
  }
  return error_of_text(ErrorCode::kInternal, std::string{method} + "() returned " + value +
                                                 "; wanted " + std::string{wanted});
}

SetupResult<ObjectTraits> traits_of(PyObject* object) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  ObjectTraits traits;
  LARDER_TRY(read_number(object, "num_workers", 1U, 256U, traits.num_workers));
  LARDER_TRY(read_number(object, "batches_max", std::uint64_t{1}, std::uint64_t{1} << 20,
                         traits.limits.batches_max));
  LARDER_TRY(
      read_number(object, "in_flight_bytes", std::uint64_t{1}, kMost, traits.limits.bytes_max));
  LARDER_TRY(read_number(object, "value_bytes_max", std::uint64_t{1}, kValueBytesMax,
                         traits.value_bytes_max));
  LARDER_TRY(read_number(object, "capacity_bytes", std::uint64_t{0}, kMost, traits.capacity_bytes));
  LARDER_TRY(read_locality(object, traits.locality));
  const Reference survives = attribute_of(object, "survives_restart");
  traits.survives_restart = survives && PyObject_IsTrue(survives.get()) == 1;
  PyErr_Clear();
  return traits;
}

SetupResult<std::unique_ptr<PythonObject>> adopt(PyObject* object) {
  if (method_of(object, "submit_batch_get")) return make_native_object(object);
  if (method_of(object, "get_into")) return make_plain_object(object);
  return wrong(std::string{"an object of type "} + Py_TYPE(object)->tp_name +
               " is no connector: it has neither get_into (larder.connectors.PythonConnector) nor "
               "submit_batch_get (LMCache's native contract)");
}

}  // namespace larder::python
