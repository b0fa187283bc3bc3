#include "module/front/client.h"

#include "module/front/requests.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

/// The error of the batch's first item, as larder.Error.
[[noreturn]] void throw_failure(const Batch& batch) {
  PyErr_SetString(exceptions.error, describe_failure(batch, 0).c_str());
  throw nb::python_error();
}

}  // namespace

Client::Client(nb::handle spec) : handle_(open_handle(spec)) {}

Client::~Client() {
  if (handle_ != nullptr) Handle::let_go(std::move(handle_));
}

nb::object Client::get_into(nb::handle keys, nb::handle buffers, nb::handle urgency,
                            nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request_load(*operation, keys, buffers, deadline_ns);
  operation->batch.urgency = urgency_or(urgency, Urgency::kDemand);
  return loads_of(*run(std::move(operation)));
}

nb::object Client::get(nb::handle key, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto lookup = std::make_unique<PythonOperation>();
  request_size(*lookup, key, deadline_ns);
  lookup = look_up(std::move(lookup));
  if (lookup->items[0].outcome == Outcome::kFailed) throw_failure(lookup->batch);
  if (lookup->items[0].outcome != Outcome::kHit) return nb::none();
  std::uint64_t room = lookup->items[0].value_bytes;
  for (;;) {
    auto load = std::make_unique<PythonOperation>();
    request_load_of_one(*load, key, room, deadline_ns);
    load = run(std::move(load));
    const Item& item = load->items[0];
    if (item.outcome != Outcome::kFailed) return bytes_of_load(*load);
    room = room_after(item, room);
    if (room > 0) continue;
    throw_failure(load->batch);
  }
}

nb::object Client::set(nb::handle key, nb::handle value, bool replaces, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request_store_of_one(*operation, key, value, replaces, deadline_ns);
  return stores_of(*run(std::move(operation)));
}

nb::object Client::set_many(nb::handle keys, nb::handle values, bool replaces, nb::handle urgency,
                            nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request_store(*operation, keys, values, replaces, deadline_ns);
  operation->batch.urgency = urgency_or(urgency, Urgency::kStore);
  return stores_of(*run(std::move(operation)));
}

std::unique_ptr<PythonOperation> Client::run(std::unique_ptr<PythonOperation> operation) {
  throw_unless(handle_->check_usable());
  if (operation->items.empty()) return operation;
  operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return operation;
}

std::unique_ptr<PythonOperation> Client::look_up(std::unique_ptr<PythonOperation> operation) {
  throw_unless(handle_->check_usable());
  if (operation->items.empty()) return operation;
  if (const auto session = handle_->session()) {
    const WithoutGil without_gil;
    if (session->probe(operation->items)) return operation;
  }
  return run(std::move(operation));
}

std::unique_ptr<PythonOperation> Client::look_up(nb::handle keys, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request(*operation, Op::kExists, keys, deadline_ns);
  return look_up(std::move(operation));
}

nb::object Client::sizes(nb::handle keys, nb::handle timeout) {
  return sizes_of(*look_up(keys, timeout));
}

nb::object Client::look_up_all(nb::handle keys, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request_places(*operation, keys, deadline_ns);
  operation = run(std::move(operation));
  note_load_ns(*operation, *handle_);
  return lookups_of(*operation);
}

nb::object Client::hint(nb::handle keys, nb::handle hint, nb::handle ttl, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request_hint(*operation, keys, hint, ttl, deadline_ns);
  return touches_of(*run(std::move(operation)));
}

nb::object Client::exists(nb::handle keys, nb::handle timeout) {
  return existence_of(*look_up(keys, timeout));
}

nb::object Client::remove(nb::handle keys, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  auto operation = std::make_unique<PythonOperation>();
  request(*operation, Op::kDelete, keys, deadline_ns);
  return deletions_of(*run(std::move(operation)));
}

nb::object Client::report() const {
  return report_of(*handle_);
}

void Client::close(nb::handle timeout) {
  double seconds = 0;
  throw_unless(seconds_of(timeout.ptr(), {.allows_zero = true}, seconds));
  throw_unless(handle_->close(ns_of(seconds / 2), ns_of(seconds)));
}

}  // namespace larder::python
