#include "module/front/handle.h"

#include <algorithm>
#include <vector>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "module/back/python_registry.h"
#include "module/common/reference.h"
#include "module/front/values.h"

namespace larder::python {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
/// How often a waiting call looks for signals (Ctrl-C).
constexpr std::uint64_t kSignalsEveryNs = kSecond / 10;
/// How long a call waits past its deadline for transfers that the kernel already has.
constexpr std::uint64_t kPastDeadlineNs = kSecond;
constexpr std::uint64_t kEndTimeoutNs = 30 * kSecond;

// In the order of opening. Guarded by the GIL.
std::vector<Handle*>& open_handles() {
  // Never destroyed, because objects may be destroyed after static ones.
  static auto& handles = *new std::vector<Handle*>;
  return handles;
}

std::uint64_t after(std::uint64_t ns) noexcept {
  const std::uint64_t now = RealClock::instance().now_ns();
  return ns >= kNever - now ? kNever : now + ns;
}

/// Frees a store, which may take long (an index, gigabytes of values).
void free_without_gil(doors::Session* session) noexcept {
  if (PyGILState_Check() == 0) {
    delete session;
    return;
  }
  const WithoutGil without_gil;
  delete session;
}

/// A key as Python shows it: 'text', or b'\x00...' where it is no text; long ones cut.
std::string shown_key(std::span<const std::byte> key) {
  constexpr std::size_t kShownMax = 160;
  const bool is_long = key.size() > kShownMax;
  const auto* const bytes = reinterpret_cast<const char*>(key.data());
  auto count = static_cast<Py_ssize_t>(is_long ? kShownMax : key.size());
  // Not inside a character.
  while (is_long && count > 0 && (static_cast<unsigned char>(bytes[count]) & 0xC0U) == 0x80U) {
    --count;
  }
  Reference shown = Reference::steal(PyUnicode_DecodeUTF8(bytes, count, "strict"));
  if (!shown) {
    PyErr_Clear();
    shown = Reference::steal(PyBytes_FromStringAndSize(bytes, count));
  }
  const Reference text = Reference::steal(shown ? PyObject_Repr(shown.get()) : nullptr);
  const char* const utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
  PyErr_Clear();
  return std::string{utf8 == nullptr ? "?" : utf8} + (is_long ? "..." : "");
}

bool set_closed_error() {
  park_at_exit();
  PyErr_SetString(exceptions.closed, "the store was closed");
  return false;
}

}  // namespace

Exceptions exceptions;

void PythonOperation::prepare(Op op, std::uint64_t deadline_ns) {
  const auto keys = arguments.keys();
  slices.assign(arguments.slices().begin(), arguments.slices().end());
  items.resize(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    items[i].key = keys[i];
    if (!slices.empty()) items[i].value = arguments.pieces(i, slices);
  }
  batch.items = items;  // Also if a probe answers and nothing is submitted.
  batch.op = op;
  batch.deadline_ns = deadline_ns;
}

// --- Opening and closing ------------------------------------------------------------------------

Handle::Handle(std::unique_ptr<doors::Session> session, std::uint64_t end_grace_ns)
    : session_(session.release(), free_without_gil),
      generation_(fork_generation()),
      end_grace_ns_(end_grace_ns) {
  open_handles().push_back(this);
}

Handle::~Handle() {
  std::erase(open_handles(), this);
}

std::shared_ptr<Handle> Handle::open(const std::string& spec, const doors::SessionOptions& options,
                                     std::uint64_t end_grace_ns) {
  SetupResult<std::unique_ptr<doors::Session>> session = SetupError{};
  const auto resolved = resolve_spec(spec);
  if (!resolved) {
    session = resolved.error();
  } else {
    const WithoutGil without_gil;
    session = doors::Session::open(python_registry(), *resolved, options);
  }
  if (!session) {
    PyErr_SetString(exceptions.open, printable(session.error().text).c_str());
    return nullptr;
  }
  return std::shared_ptr<Handle>{new Handle{std::move(*session), end_grace_ns}};
}

bool Handle::check_usable() const {
  if (is_forked()) {
    PyErr_SetString(exceptions.forked,
                    "the store was opened before fork() and belongs to the parent process; open it "
                    "in the child, under another directory");
    return false;
  }
  return is_closed() || is_exiting() ? set_closed_error() : true;
}

bool Handle::close(std::uint64_t grace_ns, std::uint64_t timeout_ns) {
  const auto session = session_;
  if (session == nullptr || is_forked()) return true;
  Status status;
  {
    const WithoutGil without_gil;
    status = session->close(after(grace_ns), after(timeout_ns));
  }
  if (status) {
    drop_session();
    return true;
  }
  const std::string stuck = session->stuck();
  PyErr_Format(exceptions.stuck,
               "the store is not closed: %s%s%s. Its buffers are kept alive until that ends; "
               "close() again waits on",
               status.error().to_string().c_str(), stuck.empty() ? "" : ": ", stuck.c_str());
  return false;
}

void Handle::drop_session() {
  if (session_ == nullptr) return;  // Another thread's close() was quicker.
  discard_finished();
  session_.reset();
}

void Handle::discard_finished() {
  const auto session = session_;
  for (;;) {
    doors::Operation* operation = nullptr;
    {
      const WithoutGil
          without_gil;  // A waiting batch may be begun in there, which may copy its values.
      operation = session->take();
    }
    if (operation == nullptr) return;
    static_cast<PythonOperation*>(operation)->discard();
  }
}

void Handle::let_go(std::shared_ptr<Handle> handle) {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  if (!handle->is_forked() && !handle->close(handle->end_grace_ns_, kEndTimeoutNs)) {
    PyErr_Clear();
    log(LogLevel::kWarning, "python",
        "a store that nobody uses any more could not be closed: " + handle->session_->stuck());
  }
  // Its threads may still run, or may not exist in this process: neither can be joined, and so it
  // is never freed.
  if (!handle->is_closed()) new std::shared_ptr<Handle>{handle};
  handle.reset();
  PyErr_Restore(type, value, trace);
}

std::vector<std::shared_ptr<doors::Session>> Handle::open_sessions() {
  std::vector<std::shared_ptr<doors::Session>> sessions;
  for (const Handle* const handle : open_handles()) {
    if (handle->is_forked() || handle->is_closed()) continue;
    sessions.push_back(handle->session());
  }
  return sessions;
}

void Handle::close_all() {
  begin_exit();
  std::vector<std::shared_ptr<Handle>> handles;
  for (Handle* const handle : open_handles()) {
    // Empty for a handle whose end has begun.
    if (auto shared = handle->weak_from_this().lock()) handles.push_back(std::move(shared));
  }
  for (const std::shared_ptr<Handle>& handle : handles) {
    const auto session = handle->session();
    if (handle->is_forked() || session == nullptr) continue;
    PyThreadState* const state = PyEval_SaveThread();
    const Status status = session->close(after(handle->end_grace_ns_), after(kEndTimeoutNs));
    PyEval_RestoreThread(state);
    if (status) {
      handle->drop_session();
    } else {
      log(LogLevel::kWarning, "python", "a store could not be closed at exit: " + session->stuck());
    }
  }
  leave_interpreter(kEndTimeoutNs);
}

// --- One call -----------------------------------------------------------------------------------

std::unique_ptr<PythonOperation> Handle::run(std::unique_ptr<PythonOperation> operation) {
  const auto session = session_;
  if (session == nullptr) {  // An argument's own code has closed it.
    set_closed_error();
    return nullptr;
  }
  if (has_left_operations_) discard_finished();
  const std::uint64_t deadline_ns = operation->batch.deadline_ns;
  const std::uint64_t give_up_ns =
      deadline_ns >= kNever - kPastDeadlineNs ? kNever : deadline_ns + kPastDeadlineNs;
  Status submitted;
  bool is_back = false;
  {
    const WithoutGil without_gil;
    submitted = session->submit(*operation);
    if (submitted)
      is_back = session->wait(*operation, std::min(give_up_ns, after(kSignalsEveryNs)));
  }
  if (!submitted) {
    operation.reset();
    if (!session->is_open()) {
      set_closed_error();
    } else {
      PyErr_SetString(exceptions.error, submitted.error().to_string().c_str());
    }
    return nullptr;
  }
  bool is_interrupted = false;
  std::uint64_t until_ns = give_up_ns;
  while (!is_back && RealClock::instance().now_ns() < until_ns) {
    park_at_exit();  // From then on a wait would keep the GIL, and so block the interpreter's end.
    if (!is_interrupted && PyErr_CheckSignals() != 0) {
      is_interrupted = true;
      session->cancel(*operation);
      until_ns = std::min(until_ns, after(kPastDeadlineNs));
    }
    const WithoutGil without_gil;
    is_back = session->wait(*operation, std::min(until_ns, after(kSignalsEveryNs)));
  }
  if (!is_back && session->leave(*operation)) {
    // The kernel may still write into the buffers, so they stay alive.
    has_left_operations_ = true;
    operation->is_left = true;
    const std::size_t keys = operation->items.size();
    static_cast<void>(operation.release());
    if (!is_interrupted) {
      PyErr_Format(exceptions.stuck,
                   "no answer at the deadline: the kernel or a peer still has some of %zu keys. "
                   "Their buffers may still be written to and are kept alive until then",
                   keys);
    }
    return nullptr;
  }
  if (is_interrupted) {
    // Releasing a buffer may run Python code, which must not meet the exception.
    PyObject* type = nullptr;
    PyObject* value = nullptr;
    PyObject* trace = nullptr;
    PyErr_Fetch(&type, &value, &trace);
    operation.reset();
    PyErr_Restore(type, value, trace);
  }
  return operation;
}

bool deadline_of(PyObject* timeout, std::uint64_t& deadline_ns) {
  double seconds = 0;
  if (!seconds_of(timeout, {}, seconds)) return false;
  deadline_ns = after(ns_of(seconds));
  return true;
}

std::string describe_failure(const Batch& batch, std::size_t index) {
  const Item& item = batch.items[index];
  std::string text = "key " + shown_key(item.key) + " (index " + std::to_string(index);
  if (!item.value.empty()) {
    text += ", buffer of " + std::to_string(bytes_of(item.value)) + " bytes";
    if (item.error.code() == ErrorCode::kSizeMismatch) {
      text += ", stored with " + std::to_string(item.value_bytes);
    }
  }
  return text + "): " + item.error.to_string();
}

std::string first_failure(const Batch& batch, std::size_t failed) {
  const auto at = std::ranges::find(batch.items, Outcome::kFailed, &Item::outcome);
  std::string text =
      describe_failure(batch, static_cast<std::size_t>(std::distance(batch.items.begin(), at)));
  if (failed > 1) text += " (and " + std::to_string(failed - 1) + " more keys)";
  return text;
}

}  // namespace larder::python
