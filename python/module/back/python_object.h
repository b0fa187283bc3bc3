#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "larder/base/logging.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/connector.h"
#include "module/back/call_buffer.h"
#include "module/common/python_thread.h"
#include "module/common/reference.h"

namespace larder::python {

/// Properties that a Python object declares by its attributes; see
/// larder.connectors.PythonConnector.
struct ObjectTraits {
  std::uint32_t num_workers = 4;  ///< For lookups, loads and stores each.
  BatchLimitOptions limits;
  std::uint64_t value_bytes_max = kValueBytesMax;
  std::uint64_t capacity_bytes = 0;
  Locality locality = Locality::kLocalDisk;
  bool survives_restart = false;
};

using Key = std::span<const std::byte>;

/// An object written in Python that keeps values, behind four blocking operations on one key.
///
/// Ownership: holds the object. Threads: the operations come from many, each with its own
/// PythonThread and without the GIL; an operation that changes a key runs alone on it.
/// An operation's error has the method's name, the exception's type and its text.
class PythonObject {
 public:
  PythonObject() = default;
  virtual ~PythonObject() = default;
  PythonObject(const PythonObject&) = delete;
  PythonObject& operator=(const PythonObject&) = delete;

  /// The size of the value, whose bytes are in `memory` if it has room for all of them; empty:
  /// there is no value.
  virtual Result<std::optional<std::uint64_t>> load(const PythonThread& thread, Key key,
                                                    const ValueMemory& memory) = 0;
  virtual Status store(const PythonThread& thread, Key key, const ValueMemory& memory) = 0;
  virtual Result<std::optional<std::uint64_t>> size(const PythonThread& thread, Key key) = 0;
  /// Whether it was there.
  virtual Result<bool> remove(const PythonThread& thread, Key key) = 0;
  virtual Result<bool> touch(const PythonThread& thread, Key key) {
    LARDER_ASSIGN(const auto found, size(thread, key));
    return found.has_value();
  }

  virtual bool has_scan() const noexcept { return false; }
  virtual Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) {
    return Error{ErrorCode::kUnimplemented, "python", "the connector does not list its keys"};
  }
  /// Any thread, quickly: it may take the GIL, but no I/O.
  virtual void append_report(Report& report) = 0;
  /// After the last operation: closes the Python object, once. False at `deadline_ns`: it is still
  /// at it, and this must not be destroyed; ask again.
  virtual bool close(std::uint64_t deadline_ns) noexcept = 0;
};

/// The common counters and reports of both kinds of objects.
class ObjectLog {
 public:
  /// An error of a method, for the counters and, at most once a second, for the log. Returns it.
  Error note(const Error& error) noexcept;
  /// A method kept a view of a buffer after it returned.
  Error note_kept_view(std::string_view method) noexcept;
  /// Counts it without failing the call.
  void count_kept_view() noexcept { views_kept_total_.fetch_add(1, std::memory_order_relaxed); }
  void append_counters(Report& report) const;

 private:
  LogLimiter limiter_{1'000'000'000};
  std::atomic<std::uint64_t> errors_total_ = 0;
  std::atomic<std::uint64_t> views_kept_total_ = 0;
};

/// Makes the form that `object` has: plain methods (get_into, set, size, delete) or LMCache's
/// native contract (event_fd, submit_batch_..., drain_completions). With the GIL held. The error
/// says what is missing.
SetupResult<std::unique_ptr<PythonObject>> adopt(PyObject* object);
/// With the GIL held. The error names attribute and value.
SetupResult<ObjectTraits> traits_of(PyObject* object);

SetupResult<std::unique_ptr<PythonObject>> make_plain_object(PyObject* object);
SetupResult<std::unique_ptr<PythonObject>> make_native_object(PyObject* object);

/// With the GIL held: an attribute that must be callable; or none (empty), without an exception.
Reference method_of(PyObject* object, const char* name);
Reference bytes_of_key(Key key);
/// "get_into() returned 'str'; wanted ...", with the GIL held.
Error wrong_result(std::string_view method, PyObject* result, std::string_view wanted);

}  // namespace larder::python
