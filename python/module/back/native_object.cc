#include <algorithm>

#include "module/back/call_buffer.h"
#include "module/back/closer.h"
#include "module/back/native_completions.h"
#include "module/back/python_object.h"
#include "module/back/size_table.h"
#include "module/common/python_error.h"

namespace larder::python {
namespace {

SetupError wrong(PyObject* object, const std::string& what) {
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{"an object of type "} + Py_TYPE(object)->tp_name + " " + what};
}

/// An object with LMCache's native contract, called with batches of one key: only so does it tell
/// which Set failed, and its own workers take one key after the other anyway. It does not report
/// sizes, which are known for values that this process stored.
class NativeObject final : public PythonObject {
 public:
  static SetupResult<std::unique_ptr<PythonObject>> make(PyObject* object);

  NativeObject(PyObject* object, Reference drain, int event_fd, EventFd wake)
      : object_(Reference::borrow(object)),
        get_(method_of(object, "submit_batch_get")),
        set_(method_of(object, "submit_batch_set")),
        exists_(method_of(object, "submit_batch_exists")),
        delete_(method_of(object, "submit_batch_delete")),
        completions_(std::move(drain), event_fd, std::move(wake)) {}

  ~NativeObject() override {
    const WithGil with_gil;
    for (Reference* one : {&object_, &get_, &set_, &exists_, &delete_}) *one = Reference{};
  }

  Result<std::optional<std::uint64_t>> load(const PythonThread& thread, Key key,
                                            const ValueMemory& memory) override {
    const auto known = sizes_.find(key);
    if (known && *known > memory.bytes) return known;
    const ValueMemory room{memory.owner, known.value_or(memory.bytes)};
    LARDER_ASSIGN(const bool is_hit, ask(thread, {get_, "submit_batch_get"}, key, &room, true));
    if (is_hit) return std::optional<std::uint64_t>{room.bytes};
    sizes_.erase(key);
    return std::optional<std::uint64_t>{};
  }

  Status store(const PythonThread& thread, Key key, const ValueMemory& memory) override {
    // Whether a failed Set took effect is unknown.
    sizes_.erase(key);
    LARDER_TRY(ask(thread, {set_, "submit_batch_set"}, key, &memory, false));
    sizes_.set(key, memory.bytes);
    return {};
  }

  Result<std::optional<std::uint64_t>> size(const PythonThread& thread, Key key) override {
    LARDER_ASSIGN(const bool is_there,
                  ask(thread, {exists_, "submit_batch_exists"}, key, nullptr, false));
    if (is_there) return std::optional<std::uint64_t>{sizes_.find(key).value_or(0)};
    sizes_.erase(key);
    return std::optional<std::uint64_t>{};
  }

  Result<bool> remove(const PythonThread& thread, Key key) override {
    if (!delete_) {
      return Error{ErrorCode::kUnimplemented, "python", "the object has no submit_batch_delete"};
    }
    LARDER_ASSIGN(const bool was_there,
                  ask(thread, {delete_, "submit_batch_delete"}, key, nullptr, false));
    sizes_.erase(key);
    return was_there;
  }

  void append_report(Report& report) override {
    const SizeTable::Totals totals = sizes_.totals();
    report.keys = totals.keys;
    report.bytes_used = totals.bytes;
    log_.append_counters(report);
    completions_.append_report(report);
  }

  bool close(std::uint64_t deadline_ns) noexcept override {
    return completions_.stop(deadline_ns) && closer_.close(object_.get(), deadline_ns);
  }

 private:
  struct Method {
    const Reference& call;
    const char* name;
  };

  /// One key's batch, from its submission to its completion. Its answer for the key; for a Set,
  /// that it was ok.
  Result<bool> ask(const PythonThread& thread, const Method& method, Key key,
                   const ValueMemory* memory, bool is_writable);
  Status submit(const Method& method, Key key, const CallBuffer* buffer,
                NativeCompletions::Waiter& waiter) LARDER_REQUIRES(submit_mutex_);

  /// A completion means that the object has finished with the buffer; views that its threads still
  /// hold are only counted.
  void give_back(std::optional<CallBuffer>& buffer) noexcept {
    if (buffer && !buffer->end(false)) log_.count_kept_view();
    buffer.reset();
  }

  /// Submissions come one after the other, as from LMCache. Taken before the GIL, never after.
  Mutex submit_mutex_;
  Reference object_;
  Reference get_;
  Reference set_;
  Reference exists_;
  Reference delete_;
  ObjectLog log_;
  SizeTable sizes_;
  NativeCompletions completions_;
  Closer closer_;
};

SetupResult<std::unique_ptr<PythonObject>> NativeObject::make(PyObject* object) {
  for (const char* const name : {"submit_batch_set", "submit_batch_exists", "drain_completions"}) {
    if (!method_of(object, name)) {
      return wrong(object, std::string{"has submit_batch_get, but no method "} + name);
    }
  }
  const Reference fd = Reference::steal(PyObject_CallMethod(object, "event_fd", nullptr));
  const long number = fd && PyLong_Check(fd.get()) ? PyLong_AsLong(fd.get()) : -1;
  if (number < 0 || number > INT32_MAX) {
    const std::string text =
        PyErr_Occurred() != nullptr ? take_exception() : "it returned no file descriptor";
    return wrong(object, "has no usable event_fd(): " + text);
  }
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), wake.error().to_string()};
  auto made = std::make_unique<NativeObject>(object, method_of(object, "drain_completions"),
                                             static_cast<int>(number), std::move(*wake));
  if (const Status started = made->completions_.start(); !started) {
    return SetupError{started.error().code(), started.error().to_string()};
  }
  return made;
}

Status NativeObject::submit(const Method& method, Key key, const CallBuffer* buffer,
                            NativeCompletions::Waiter& waiter) {
  // LMCache's keys are str. Bytes that are not UTF-8 are decoded like os.fsdecode().
  const Reference name = Reference::steal(
      PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(key.data()),
                           static_cast<Py_ssize_t>(key.size()), "surrogateescape"));
  const Reference keys = Reference::steal(name ? Py_BuildValue("[O]", name.get()) : nullptr);
  const Reference views = Reference::steal(buffer != nullptr && keys && buffer->view() != nullptr
                                               ? Py_BuildValue("[O]", buffer->view())
                                               : nullptr);
  if (!keys || (buffer != nullptr && !views)) return take_error(method.name);
  completions_.begin();
  const Reference result = Reference::steal(
      PyObject_CallFunctionObjArgs(method.call.get(), keys.get(), views.get(), nullptr));
  if (!result) {
    completions_.give_up();
    return take_error(method.name);
  }
  const bool is_integer = PyLong_Check(result.get()) && !PyBool_Check(result.get());
  const std::uint64_t future_id = is_integer ? PyLong_AsUnsignedLongLong(result.get()) : 0;
  if (!is_integer || PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    completions_.give_up();
    return wrong_result(method.name, result.get(), "a future id as an int");
  }
  if (completions_.expect(future_id, waiter)) return {};
  return error_of_text(ErrorCode::kInternal,
                       std::string{method.name} + "() returned a future id that is in flight");
}

Result<bool> NativeObject::ask(const PythonThread& thread, const Method& method, Key key,
                               const ValueMemory* memory, bool is_writable) {
  NativeCompletions::Waiter waiter;
  std::optional<CallBuffer> buffer;
  {
    const MutexLock lock{submit_mutex_};
    const PythonThread::Turn turn{thread};
    if (memory != nullptr) buffer.emplace(*memory, is_writable);
    const Status submitted = submit(method, key, buffer ? &*buffer : nullptr, waiter);
    if (!submitted) {
      give_back(buffer);
      return log_.note(submitted.error());
    }
  }
  const NativeAnswer answer = completions_.wait(waiter);
  if (buffer) {
    const PythonThread::Turn turn{thread};
    give_back(buffer);
  }
  if (answer.has_results && (answer.is_ok || is_writable)) return answer.is_true;
  if (answer.is_ok) return true;
  return log_.note(error_of_text(
      ErrorCode::kIo, std::string{method.name} + ": " +
                          (answer.error.empty() ? "failed without a text" : answer.error)));
}

}  // namespace

SetupResult<std::unique_ptr<PythonObject>> make_native_object(PyObject* object) {
  return NativeObject::make(object);
}

}  // namespace larder::python
