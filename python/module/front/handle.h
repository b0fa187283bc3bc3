#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/doors/session.h"
#include "module/front/arguments.h"

namespace larder::python {

/// One call's batch, with the Python objects that it points into. Destroyed with the GIL held.
struct PythonOperation : doors::Operation {
  /// Makes one item for each key of `arguments`, with its slice if there are any.
  void prepare(Op op, std::uint64_t deadline_ns);
  /// Frees an operation that was taken from the session and that no caller waits for any more.
  virtual void discard() { delete this; }

  Arguments arguments;
  std::uint64_t future_id = 0;
  std::uint64_t load_ns = kNever;  ///< For a lookup that asked for it: see note_load_ns().
  bool is_left = false;  ///< Its call has given up on it: the thread that takes it discards it.
};

/// larder.Error and its children; filled when the module is loaded.
struct Exceptions {
  PyObject* error = nullptr;
  PyObject* closed = nullptr;
  PyObject* forked = nullptr;
  PyObject* open = nullptr;
  PyObject* stuck = nullptr;
  PyObject* unsupported = nullptr;
};
extern Exceptions exceptions;

/// An opened store, as the Python classes share it.
///
/// Ownership: owns the session. Lives until its Python object is gone, or for ever if the kernel
/// kept something at the end, or if it belongs to the parent process (after a fork).
/// Threads: the GIL guards everything but the session.
class Handle : public std::enable_shared_from_this<Handle> {
 public:
  static constexpr std::uint64_t kEndGraceNs = 10'000'000'000;

  /// nullptr with a Python exception set. Gives the GIL back while it opens. `end_grace_ns` is the
  /// time that operations get to end by themselves if the store was not closed: at exit, and at the
  /// end of its object.
  static std::shared_ptr<Handle> open(const std::string& spec,
                                      const doors::SessionOptions& options = {},
                                      std::uint64_t end_grace_ns = kEndGraceNs);
  /// Called at exit: closes every handle that is still open.
  static void close_all();
  /// The stores that are open in this process, and are its own after a fork.
  static std::vector<std::shared_ptr<doors::Session>> open_sessions();
  /// Ends a handle together with its Python object.
  static void let_go(std::shared_ptr<Handle> handle);

  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  /// False with ForkedError or ClosedError set.
  bool check_usable() const;
  bool is_forked() const noexcept { return generation_ != fork_generation(); }
  bool is_closed() const noexcept { return session_ == nullptr; }
  /// False with StuckError set. Lets operations run for `grace_ns` before they are cancelled.
  bool close(std::uint64_t grace_ns, std::uint64_t timeout_ns);
  /// Ends operations that no caller waits for any more.
  void discard_finished();

  /// Not for a closed one. A call holds this as long as it uses the session, because close()
  /// releases it, and with it the store's lock, while other threads may be inside a call. Whichever
  /// thread drops the last reference, the store is freed without the GIL.
  std::shared_ptr<doors::Session> session() const noexcept { return session_; }
  /// Submits and waits. On success the operation is finished; on failure it is freed, or kept alive
  /// until the kernel has released its memory, and a Python exception is set.
  std::unique_ptr<PythonOperation> run(std::unique_ptr<PythonOperation> operation);

 private:
  Handle(std::unique_ptr<doors::Session> session, std::uint64_t end_grace_ns);
  /// Call it after the session's close() returned OK.
  void drop_session();

  std::shared_ptr<doors::Session> session_;  ///< Empty once it is closed.
  const std::uint64_t generation_;
  const std::uint64_t end_grace_ns_;
  bool has_left_operations_ = false;
};

/// None, or seconds from now. False with an exception set.
bool deadline_of(PyObject* timeout, std::uint64_t& deadline_ns);

/// "key 'abc' (index 3, buffer of 4096 bytes): log: ...". For people: the key is shown as Python
/// shows it, so that it cannot forge a line or move a cursor. With the GIL held.
std::string describe_failure(const Batch& batch, std::size_t index);
/// The first one of `failed` of them, and how many more there are.
std::string first_failure(const Batch& batch, std::size_t failed);

}  // namespace larder::python
