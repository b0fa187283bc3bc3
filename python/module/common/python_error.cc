#include "module/common/python_error.h"

#include <unordered_set>

#include "larder/base/mutex.h"

namespace larder::python {
namespace {

constexpr std::size_t kTextBytesMax = 300;
constexpr std::size_t kTextsMax = 4096;
constexpr const char* kWhere = "python";

struct Texts {
  Mutex mutex;
  std::unordered_set<std::string> kept LARDER_GUARDED_BY(mutex);
};

/// The text, kept for ever, or nullptr.
const char* keep(std::string_view text) {
  static auto& texts = *new Texts;
  const MutexLock lock{texts.mutex};
  std::string key{text};
  const auto found = texts.kept.find(key);
  if (found != texts.kept.end()) return found->c_str();
  if (texts.kept.size() >= kTextsMax) return nullptr;
  return texts.kept.insert(std::move(key)).first->c_str();
}

std::string text_of(PyObject* value) {
  const Reference text = Reference::steal(value == nullptr ? nullptr : PyObject_Str(value));
  Py_ssize_t bytes = 0;
  const char* const data = text ? PyUnicode_AsUTF8AndSize(text.get(), &bytes) : nullptr;
  if (data == nullptr) {
    PyErr_Clear();
    return "a text that cannot be shown";
  }
  return {data, static_cast<std::size_t>(bytes)};
}

/// Cut between characters.
void cut(std::string& text) {
  if (text.size() <= kTextBytesMax) return;
  std::size_t end = kTextBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  text.resize(end);
  text += "...";
}

struct Raised {
  Reference type;
  Reference value;
  Reference trace;
};

Raised fetch() {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  return {Reference::steal(type), Reference::steal(value), Reference::steal(trace)};
}

std::string text_of(const Raised& raised) {
  if (!raised.type) return "no exception was set";
  std::string text = reinterpret_cast<PyTypeObject*>(raised.type.get())->tp_name;
  const std::string said = text_of(raised.value.get());
  if (!said.empty()) text += ": " + said;
  cut(text);
  return text;
}

/// For an OSError, else 0.
int errno_of(const Raised& raised) {
  if (!raised.value || PyErr_GivenExceptionMatches(raised.type.get(), PyExc_OSError) == 0) return 0;
  const Reference number = Reference::steal(PyObject_GetAttrString(raised.value.get(), "errno"));
  long value = 0;
  if (number && PyLong_Check(number.get())) value = PyLong_AsLong(number.get());
  PyErr_Clear();
  return value > 0 && value < 4096 ? static_cast<int>(value) : 0;
}

ErrorCode code_of(const Raised& raised) {
  const auto is = [&](PyObject* type) {
    return raised.type && PyErr_GivenExceptionMatches(raised.type.get(), type) != 0;
  };
  if (is(PyExc_TimeoutError)) return ErrorCode::kDeadlineExceeded;
  if (is(PyExc_ConnectionError)) return ErrorCode::kUnavailable;
  if (is(PyExc_MemoryError)) return ErrorCode::kResourceExhausted;
  if (is(PyExc_NotImplementedError)) return ErrorCode::kUnimplemented;
  if (const int number = errno_of(raised); number != 0) {
    return Error::from_errno(number, "", "").code();
  }
  return ErrorCode::kIo;
}

}  // namespace

std::string take_exception() {
  return text_of(fetch());
}

std::string take_message() {
  const Raised raised = fetch();
  return raised.value ? text_of(raised.value.get()) : text_of(raised);
}

Error take_error(std::string_view method) {
  const Raised raised = fetch();
  const ErrorCode code = code_of(raised);
  const std::string prefix = std::string{method} + "() raised ";
  if (const char* const text = keep(prefix + text_of(raised)); text != nullptr) {
    return {code, kWhere, text};
  }
  return {code, kWhere, "a method raised an exception; the log has the last ones"};
}

Error error_of_text(ErrorCode code, std::string_view text) {
  std::string shown{text};
  cut(shown);
  const char* const kept = keep(shown);
  return {code, kWhere, kept != nullptr ? kept : "a method failed; the log has the last ones"};
}

}  // namespace larder::python
