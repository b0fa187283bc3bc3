#include "module/front/event_client.h"

#include <fcntl.h>

namespace larder::python {
namespace nb = nanobind;

EventClient::EventClient(nb::handle spec, bool misses_wrong_sizes, std::uint64_t end_grace_ns)
    : handle_(open_handle(spec,
                          {.has_thread = true,
                           .misses_wrong_sizes = misses_wrong_sizes,
                           .is_announced = misses_wrong_sizes},  // An engine's cache tier.
                          end_grace_ns)),
      in_flight_(std::make_shared<InFlight>()) {
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

Result<bool> EventClient::start(const std::shared_ptr<Operation>& operation) {
  if (!in_flight_->emplace(operation->future_id, operation.get()).second) {
    PyErr_Format(PyExc_ValueError, "id: %llu is in flight already",
                 static_cast<unsigned long long>(operation->future_id));
    throw nb::python_error();
  }
  operation->in_flight = in_flight_;
  const auto session = handle_->session();
  // An argument's own code may have closed it.
  if (session == nullptr) return Error{ErrorCode::kCancelled, "session", "it was closed"};
  operation->is_taken = true;
  operation->self = operation;
  Status submitted;
  {
    const WithoutGil without_gil;
    // A probe does not tell places.
    if (operation->batch.op == Op::kExists && !operation->batch.wants_places &&
        session->probe(operation->items)) {
      operation->self.reset();
      return false;
    }
    submitted = session->submit(*operation);
  }
  if (submitted) return true;
  operation->self.reset();
  return submitted.error();
}

void EventClient::post(const std::shared_ptr<Operation>& operation) {
  const auto session = handle_->session();
  if (session == nullptr) return;
  operation->is_taken = true;
  operation->self = operation;
  session->post(*operation);
}

std::shared_ptr<EventClient::Operation> EventClient::take() {
  const auto session = handle_->session();
  while (session != nullptr) {
    auto* const taken = static_cast<PythonOperation*>(session->take());
    if (taken == nullptr) break;
    if (!taken->is_left) return std::move(static_cast<Operation*>(taken)->self);
    taken->discard();
  }
  return nullptr;
}

void EventClient::cancel(nb::handle id) {
  std::uint64_t number = 0;
  throw_unless(unsigned_of(id.ptr(), "id", number));
  const auto found = in_flight_->find(number);
  const auto session = handle_->session();
  if (found == in_flight_->end() || session == nullptr || handle_->is_forked()) return;
  const std::shared_ptr<Operation> operation = found->second->self;
  if (operation == nullptr) return;
  // Another thread may hold the session's lock and wait for the GIL.
  const WithoutGil without_gil;
  session->cancel(*operation);
}

}  // namespace larder::python
