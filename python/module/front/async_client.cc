#include "module/front/async_client.h"

#include "module/front/requests.h"

namespace larder::python {
namespace nb = nanobind;

struct AsyncClient::Operation : EventClient::Operation {
  ResultOf result_of = nullptr;
};

// When the loops are gone no caller is left to take an answer: there is nothing to wait for at the
// end.
AsyncClient::AsyncClient(nb::handle spec) : EventClient(spec, false, 0) {}

std::shared_ptr<AsyncClient::Operation> AsyncClient::new_operation(std::uint64_t id,
                                                                   ResultOf result_of) const {
  throw_unless(handle_->check_usable());
  auto operation = std::make_shared<Operation>();
  operation->future_id = id;
  operation->result_of = result_of;
  return operation;
}

nb::object AsyncClient::start(std::shared_ptr<Operation> operation) {
  if (operation->items.empty()) {
    note_load_ns(*operation, *handle_);
    return operation->result_of(*operation);
  }
  const Result<bool> is_accepted = EventClient::start(operation);
  if (is_accepted && *is_accepted) return nb::none();
  if (is_accepted) return operation->result_of(*operation);
  throw_unless(handle_->check_usable());
  const bool is_closing = is_accepted.error().code() == ErrorCode::kCancelled;
  PyErr_SetString(is_closing ? exceptions.closed : exceptions.error,
                  is_closing ? "the store was closed" : is_accepted.error().to_string().c_str());
  throw nb::python_error();
}

nb::object AsyncClient::submit_get_into(std::uint64_t id, nb::handle keys, nb::handle buffers,
                                        nb::handle urgency, nb::handle timeout) {
  auto operation = new_operation(id, loads_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_load(*operation, keys, buffers, deadline_ns);
  operation->batch.urgency = urgency_or(urgency, Urgency::kDemand);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_get(std::uint64_t id, nb::handle key, std::uint64_t room,
                                   nb::handle timeout) {
  auto operation = new_operation(id, value_of);
  request_load_of_one(*operation, key, room, deadline_after(timeout));
  return start(std::move(operation));
}

nb::object AsyncClient::submit_set(std::uint64_t id, nb::handle key, nb::handle value,
                                   bool replaces, nb::handle timeout) {
  auto operation = new_operation(id, stores_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_store_of_one(*operation, key, value, replaces, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_set_many(std::uint64_t id, nb::handle keys, nb::handle values,
                                        bool replaces, nb::handle urgency, nb::handle timeout) {
  auto operation = new_operation(id, stores_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_store(*operation, keys, values, replaces, deadline_ns);
  operation->batch.urgency = urgency_or(urgency, Urgency::kStore);
  return start(std::move(operation));
}

nb::object AsyncClient::look_up(std::uint64_t id, nb::handle keys, nb::handle timeout,
                                ResultOf result_of) {
  auto operation = new_operation(id, result_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request(*operation, Op::kExists, keys, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_size(std::uint64_t id, nb::handle key, nb::handle timeout) {
  auto operation = new_operation(id, size_of_one);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_size(*operation, key, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_sizes(std::uint64_t id, nb::handle keys, nb::handle timeout) {
  return look_up(id, keys, timeout, sizes_of);
}

nb::object AsyncClient::submit_exists(std::uint64_t id, nb::handle keys, nb::handle timeout) {
  return look_up(id, keys, timeout, existence_of);
}

nb::object AsyncClient::submit_look_up(std::uint64_t id, nb::handle keys, nb::handle timeout) {
  auto operation = new_operation(id, lookups_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_places(*operation, keys, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_hint(std::uint64_t id, nb::handle keys, nb::handle hint,
                                    nb::handle ttl, nb::handle timeout) {
  auto operation = new_operation(id, touches_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request_hint(*operation, keys, hint, ttl, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::submit_delete(std::uint64_t id, nb::handle keys, nb::handle timeout) {
  auto operation = new_operation(id, deletions_of);
  const std::uint64_t deadline_ns = deadline_after(timeout);
  request(*operation, Op::kDelete, keys, deadline_ns);
  return start(std::move(operation));
}

nb::object AsyncClient::drain() {
  nb::list finished;
  if (handle_->is_closed()) return finished;
  throw_unless(handle_->check_usable());
  while (const auto taken = take()) {
    auto& operation = static_cast<Operation&>(*taken);
    note_load_ns(operation, *handle_);
    finished.append(nb::make_tuple(operation.future_id, operation.result_of(operation)));
  }
  return finished;
}

}  // namespace larder::python
