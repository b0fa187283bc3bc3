#include "module/event_client.h"

#include <fcntl.h>

namespace larder::python {
namespace nb = nanobind;

EventClient::EventClient(nb::handle spec, bool misses_wrong_sizes, std::uint64_t end_grace_ns)
    : handle_(open_handle(spec,
                          {.has_thread = true,
                           .misses_wrong_sizes = misses_wrong_sizes,
                           .is_announced = misses_wrong_sizes},  // An engine's cache tier.
                          end_grace_ns)) {
  event_fd_ = UniqueFd{::fcntl(handle_->session()->event_fd(), F_DUPFD_CLOEXEC, 0)};
  if (!event_fd_) {
    PyErr_SetFromErrno(PyExc_OSError);
    Handle::let_go(std::move(handle_));
    throw nb::python_error();
  }
}

EventClient::~EventClient() {
  if (handle_ != nullptr) Handle::let_go(std::move(handle_));
}

int EventClient::event_fd() const {
  if (handle_->is_closed()) return -1;
  throw_unless(handle_->check_usable());
  return event_fd_.get();
}

void EventClient::close(nb::handle grace, nb::handle timeout) {
  double grace_s = 0;
  double timeout_s = 0;
  throw_unless(seconds_of(grace.ptr(), {.name = "grace", .allows_zero = true}, grace_s) &&
               seconds_of(timeout.ptr(), {.allows_zero = true}, timeout_s));
  throw_unless(handle_->close(ns_of(grace_s), ns_of(timeout_s)));
}

Result<bool> EventClient::submit(PythonOperation& operation) {
  const auto session = handle_->session();
  // An argument's own code may have closed it.
  if (session == nullptr) return Error{ErrorCode::kCancelled, "session", "it was closed"};
  const WithoutGil without_gil;
  if (operation.batch.op == Op::kExists && session->probe(operation.items)) return false;
  const Status submitted = session->submit(operation);
  if (!submitted) return submitted.error();
  return true;
}

PythonOperation* EventClient::take() {
  const auto session = handle_->session();
  return session == nullptr ? nullptr : static_cast<PythonOperation*>(session->take());
}

}  // namespace larder::python
