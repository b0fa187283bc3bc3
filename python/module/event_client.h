#pragma once

#include "larder/base/unique_fd.h"
#include "module/results.h"

namespace larder::python {

/// What the classes share whose calls return at once and are answered through an event fd.
///
/// Threads: any, but what takes finished operations is called by one at a time.
/// Invariant: an accepted operation is held, with its keys and buffers, until it was taken, or
/// until the store is closed.
class EventClient {
 public:
  EventClient(const EventClient&) = delete;
  EventClient& operator=(const EventClient&) = delete;

  /// -1 after close(). The descriptor itself stays readable as long as the object, so that its
  /// number cannot become another file's while somebody polls it.
  int event_fd() const;
  /// Seconds or None: `grace` for work to end by itself, `timeout` for everything.
  void close(nanobind::handle grace, nanobind::handle timeout);
  nanobind::object report() const { return report_of(*handle_); }
  bool is_closed() const noexcept { return handle_->is_closed(); }

 protected:
  /// Throws nanobind::python_error. `misses_wrong_sizes`: see SessionOptions; `end_grace_ns`: see
  /// Handle::open().
  EventClient(nanobind::handle spec, bool misses_wrong_sizes, std::uint64_t end_grace_ns);
  ~EventClient();

  /// True: the session has the operation, which another thread may have taken by now. False: it is
  /// an Exists that was answered from memory. An error: it was refused; it is still the caller's,
  /// as after false. The GIL is given back meanwhile.
  Result<bool> submit(PythonOperation& operation);
  /// A finished operation or nullptr. Only while the store is open.
  PythonOperation* take();

  std::shared_ptr<Handle> handle_;

 private:
  UniqueFd event_fd_;  ///< Of the session's eventfd, which it outlives.
};

}  // namespace larder::python
