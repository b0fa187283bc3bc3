#include "module/back/call_buffer.h"
#include "module/back/closer.h"
#include "module/back/python_object.h"
#include "module/common/python_error.h"

namespace larder::python {
namespace {

constexpr std::string_view kSizeWanted = "the value's size as an int, or None where there is none";

/// An object with plain methods: larder.connectors.PythonConnector, or one that looks like it.
class PlainObject final : public PythonObject {
 public:
  static SetupResult<std::unique_ptr<PythonObject>> make(PyObject* object) {
    auto made = std::make_unique<PlainObject>(object);
    for (const auto& [name, method] : {std::pair<const char*, Reference*>{"set", &made->set_},
                                       {"size", &made->size_},
                                       {"delete", &made->delete_}}) {
      *method = method_of(object, name);
      if (*method) continue;
      return SetupError{ErrorCode::kInvalidArgument, std::string{"an object of type "} +
                                                         Py_TYPE(object)->tp_name +
                                                         " has get_into, but no method " + name};
    }
    return made;
  }

  explicit PlainObject(PyObject* object)
      : object_(Reference::borrow(object)),
        get_into_(method_of(object, "get_into")),
        touch_(method_of(object, "touch")),
        scan_(method_of(object, "scan")),
        usage_(method_of(object, "usage")) {}

  ~PlainObject() override {
    const WithGil with_gil;
    for (Reference* one : {&object_, &get_into_, &set_, &size_, &delete_, &touch_, &scan_, &usage_})
      *one = Reference{};
  }

  Result<std::optional<std::uint64_t>> load(const PythonThread& thread, Key key,
                                            const ValueMemory& memory) override {
    const PythonThread::Turn turn{thread};
    CallBuffer buffer{memory, true};
    auto size = call_for_size(get_into_, "get_into", key, buffer.view());
    return buffer.end(true) ? size : log_.note_kept_view("get_into");
  }

  Status store(const PythonThread& thread, Key key, const ValueMemory& memory) override {
    const PythonThread::Turn turn{thread};
    CallBuffer buffer{memory, false};
    Status status;
    {
      const Reference result = call(set_, key, buffer.view());
      if (!result) {
        status = log_.note(take_error("set"));
      } else if (result.get() != Py_None) {
        status = log_.note(wrong_result("set", result.get(), "None; a failure is an exception"));
      }
    }
    return buffer.end(true) ? status : log_.note_kept_view("set");
  }

  Result<std::optional<std::uint64_t>> size(const PythonThread& thread, Key key) override {
    const PythonThread::Turn turn{thread};
    return call_for_size(size_, "size", key, nullptr);
  }

  Result<bool> remove(const PythonThread& thread, Key key) override {
    const PythonThread::Turn turn{thread};
    return call_for_bool(delete_, "delete", key);
  }

  Result<bool> touch(const PythonThread& thread, Key key) override {
    if (!touch_) return PythonObject::touch(thread, key);
    const PythonThread::Turn turn{thread};
    return call_for_bool(touch_, "touch", key);
  }

  bool has_scan() const noexcept override { return static_cast<bool>(scan_); }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;

  void append_report(Report& report) override {
    log_.append_counters(report);
    if (!usage_) return;
    const WithGil with_gil;
    const Reference result = Reference::steal(PyObject_CallNoArgs(usage_.get()));
    unsigned long long keys = 0;
    unsigned long long bytes = 0;
    if (result && PyTuple_Check(result.get()) &&
        PyArg_ParseTuple(result.get(), "KK", &keys, &bytes) != 0) {
      report.keys = keys;
      report.bytes_used = bytes;
      return;
    }
    report.reasons.push_back(PyErr_Occurred() != nullptr
                                 ? "usage() raised " + take_exception()
                                 : "usage() did not return a tuple of keys and bytes");
  }

  bool close(std::uint64_t deadline_ns) noexcept override {
    return closer_.close(object_.get(), deadline_ns);
  }

 private:
  static Reference call(const Reference& method, Key key, PyObject* view) {
    const Reference name = bytes_of_key(key);
    if (!name) return {};
    return Reference::steal(PyObject_CallFunctionObjArgs(method.get(), name.get(), view, nullptr));
  }

  Result<std::optional<std::uint64_t>> call_for_size(const Reference& method, const char* name,
                                                     Key key, PyObject* view) {
    const Reference result = call(method, key, view);
    if (!result) return log_.note(take_error(name));
    if (result.get() == Py_None) return std::optional<std::uint64_t>{};
    // A bool is an int to Python, and True would be a size of 1.
    if (PyLong_Check(result.get()) && !PyBool_Check(result.get())) {
      const unsigned long long size = PyLong_AsUnsignedLongLong(result.get());
      if (PyErr_Occurred() == nullptr) return std::optional<std::uint64_t>{size};
      PyErr_Clear();
    }
    return log_.note(wrong_result(name, result.get(), kSizeWanted));
  }

  Result<bool> call_for_bool(const Reference& method, const char* name, Key key) {
    const Reference result = call(method, key, nullptr);
    if (!result) return log_.note(take_error(name));
    if (PyBool_Check(result.get())) return result.get() == Py_True;
    return log_.note(wrong_result(name, result.get(), "True or False: whether the key was there"));
  }

  Reference object_;
  Reference get_into_;
  Reference set_;
  Reference size_;
  Reference delete_;
  Reference touch_;
  Reference scan_;
  Reference usage_;
  ObjectLog log_;
  Closer closer_;
};

/// ([(key, size), ...], next or None) as a page.
bool read_page(PyObject* result, std::size_t keys_max, ScanPage& page) {
  if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 2) return false;
  const Reference entries = Reference::steal(PySequence_Fast(PyTuple_GET_ITEM(result, 0), ""));
  if (!entries) return false;
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(entries.get());
  if (static_cast<std::size_t>(count) > keys_max) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const entry = PySequence_Fast_GET_ITEM(entries.get(), i);
    const char* key = nullptr;
    Py_ssize_t key_bytes = 0;
    unsigned long long size = 0;
    if (!PyTuple_Check(entry) || PyArg_ParseTuple(entry, "y#K", &key, &key_bytes, &size) == 0) {
      return false;
    }
    page.entries.push_back({std::string{key, static_cast<std::size_t>(key_bytes)}, size});
  }
  PyObject* const next = PyTuple_GET_ITEM(result, 1);
  page.done = next == Py_None;
  if (page.done) return true;
  page.next.words[0] = PyLong_Check(next) ? PyLong_AsUnsignedLongLong(next) : 0;
  return PyLong_Check(next) && PyErr_Occurred() == nullptr;
}

Result<ScanPage> PlainObject::scan(ScanCursor from, std::size_t keys_max) {
  if (!scan_) return PythonObject::scan(from, keys_max);
  const WithGil with_gil;
  const Reference result = Reference::steal(
      PyObject_CallFunction(scan_.get(), "KK", static_cast<unsigned long long>(from.words[0]),
                            static_cast<unsigned long long>(keys_max)));
  if (!result) return log_.note(take_error("scan"));
  ScanPage page;
  if (read_page(result.get(), keys_max, page)) return page;
  PyErr_Clear();
  return log_.note(wrong_result(
      "scan", result.get(),
      "a tuple: a list of at most `limit` (key, size), and the cursor to go on from or None"));
}

}  // namespace

SetupResult<std::unique_ptr<PythonObject>> make_plain_object(PyObject* object) {
  return PlainObject::make(object);
}

}  // namespace larder::python
