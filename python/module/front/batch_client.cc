#include "module/front/batch_client.h"

#include <algorithm>

#include "module/front/requests.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

/// When a batch with these terms has to end.
std::uint64_t deadline_of_terms(const BatchClient::Terms& terms) {
  double moment_s = 0;
  throw_unless(
      seconds_of(terms.deadline.ptr(), {.name = "deadline", .allows_zero = true}, moment_s));
  return std::min(deadline_after(terms.timeout), ns_of(moment_s));
}

/// A submission's arguments besides the deadline.
void apply(const BatchClient::Terms& terms, Batch& batch) {
  throw_unless(urgency_of(terms.urgency.ptr(), batch.urgency) &&
               flag_of(terms.waits_for_room.ptr(), "waits_for_room", batch.waits_for_room));
}

void fail_all(doors::Operation& operation, const Error& error) noexcept {
  for (Item& item : operation.items) {
    item.outcome = Outcome::kFailed;
    item.error = error;
  }
}

KeyOutcome outcome_of(const Item& item) noexcept {
  switch (item.outcome) {
    case Outcome::kHit:
      return KeyOutcome::kDone;
    case Outcome::kDone:
      return item.existed ? KeyOutcome::kExisted : KeyOutcome::kDone;
    case Outcome::kMiss:
      return KeyOutcome::kMiss;
    case Outcome::kPending:
    case Outcome::kFailed:
      break;
  }
  return KeyOutcome::kFailed;
}

nb::object codes_of(std::span<const Item> items) {
  nb::object codes =
      nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(items.size())));
  throw_unless(codes.is_valid());
  std::ranges::transform(items, PyBytes_AS_STRING(codes.ptr()),
                         [](const Item& item) { return static_cast<char>(outcome_of(item)); });
  return codes;
}

bool has_sizes(Op op) noexcept {
  return op == Op::kGet || op == Op::kExists;
}

bool is_size_known(const Item& item) noexcept {
  return item.outcome == Outcome::kHit ||
         (item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kSizeMismatch);
}

nb::object sizes_of_batch(const Batch& batch) {
  return list_of(has_sizes(batch.op) ? batch.items.size() : 0, [&](std::size_t i) {
    const Item& item = batch.items[i];
    return PyLong_FromUnsignedLongLong(is_size_known(item) ? item.value_bytes : 0);
  });
}

nb::object failures_of(const Batch& batch) {
  nb::dict failures;
  for (std::size_t i = 0; i < batch.items.size(); ++i) {
    if (batch.items[i].outcome != Outcome::kFailed) continue;
    const std::string_view code = error_code_name(batch.items[i].error.code());
    nb::object text = nb::steal(new_text(describe_failure(batch, i)));
    throw_unless(text.is_valid());
    failures[nb::int_(i)] = nb::make_tuple(nb::str(code.data(), code.size()), text);
  }
  return failures;
}

/// Interned, as is the string that Python compares it with.
nb::object name_of_operation(const Batch& batch) {
  const char* name = "get";
  if (batch.op == Op::kSet) name = "set";
  if (batch.op == Op::kExists) name = "exists";
  if (batch.op == Op::kDelete) name = "delete";
  if (batch.op == Op::kTouch) name = kHintNames.at(static_cast<std::size_t>(batch.hint));
  nb::object text = nb::steal(PyUnicode_InternFromString(name));
  throw_unless(text.is_valid());
  return text;
}

}  // namespace

BatchClient::BatchClient(nb::handle spec) : BatchClient(spec, Handle::kEndGraceNs) {}

BatchClient::BatchClient(nb::handle spec, std::uint64_t end_grace_ns)
    : EventClient(spec, true, end_grace_ns) {}

std::shared_ptr<BatchClient::Operation> BatchClient::new_operation() const {
  throw_unless(handle_->check_usable());
  return std::make_shared<Operation>();
}

std::shared_ptr<BatchClient::Operation> BatchClient::new_operation(nb::handle keys) const {
  auto operation = new_operation();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  return operation;
}

std::uint64_t BatchClient::submit(const std::shared_ptr<Operation>& operation, nb::handle chosen) {
  std::uint64_t id = last_id_ + 1;
  throw_unless(chosen.is_none() || unsigned_of(chosen.ptr(), "id", id));
  operation->future_id = id;
  last_id_ = std::max(last_id_, id);
  // A batch of no keys has ended; no connector takes one.
  const Result<bool> is_accepted =
      operation->items.empty() ? Result<bool>{false} : start(operation);
  if (is_accepted && *is_accepted) return id;
  if (!is_accepted) fail_all(*operation, is_accepted.error());
  post(operation);
  return id;
}

std::uint64_t BatchClient::submit(const std::shared_ptr<Operation>& operation, const Terms& terms) {
  apply(terms, operation->batch);
  operation->tag = nb::borrow(terms.tag);
  return submit(operation, nb::none());
}

std::uint64_t BatchClient::submit_get(nb::handle keys, nb::handle buffers, nb::handle allow_shorter,
                                      const Terms& terms) {
  const std::uint64_t deadline_ns = deadline_of_terms(terms);
  const auto operation = new_operation();
  request_load(*operation, keys, buffers, deadline_ns);
  throw_unless(flag_of(allow_shorter.ptr(), "allow_shorter", operation->batch.allow_shorter));
  return submit(operation, terms);
}

std::uint64_t BatchClient::submit_set(nb::handle keys, nb::handle values, bool replaces,
                                      const Terms& terms) {
  const std::uint64_t deadline_ns = deadline_of_terms(terms);
  const auto operation = new_operation();
  request_store(*operation, keys, values, replaces, deadline_ns);
  return submit(operation, terms);
}

std::uint64_t BatchClient::submit_keys(Op op, nb::handle keys, const Terms& terms) {
  const std::uint64_t deadline_ns = deadline_of_terms(terms);
  const auto operation = new_operation();
  request(*operation, op, keys, deadline_ns);
  return submit(operation, terms);
}

std::uint64_t BatchClient::submit_exists(nb::handle keys, nb::handle estimates,
                                         const Terms& terms) {
  const std::uint64_t deadline_ns = deadline_of_terms(terms);
  const auto operation = new_operation();
  request(*operation, Op::kExists, keys, deadline_ns);
  throw_unless(flag_of(estimates.ptr(), "estimates", operation->batch.wants_places));
  return submit(operation, terms);
}

std::uint64_t BatchClient::submit_hint(nb::handle keys, nb::handle hint, nb::handle ttl,
                                       const Terms& terms) {
  const std::uint64_t deadline_ns = deadline_of_terms(terms);
  const auto operation = new_operation();
  request_hint(*operation, keys, hint, ttl, deadline_ns);
  return submit(operation, terms);
}

nb::object BatchClient::probe(nb::handle keys) const {
  const auto operation = new_operation();
  request(*operation, Op::kExists, keys, kNever);
  const auto session = handle_->session();
  throw_unless(handle_->check_usable());  // An argument's own code may have closed it.
  bool is_known = false;
  {
    const WithoutGil without_gil;
    is_known = session->probe(operation->items);
  }
  return is_known ? sizes_of(*operation) : nb::none();
}

nb::object BatchClient::drain() {
  nb::list finished;
  if (handle_->is_closed()) return finished;
  throw_unless(handle_->check_usable());
  while (const auto operation = take_batch()) {
    const Batch& batch = operation->batch;
    note_load_ns(*operation, *handle_);
    finished.append(nb::make_tuple(operation->future_id, operation->tag, name_of_operation(batch),
                                   codes_of(batch.items), sizes_of_batch(batch), failures_of(batch),
                                   seconds_or_none(operation->load_ns)));
  }
  return finished;
}

nb::object BatchClient::events(nb::handle position, nb::handle events_max) const {
  throw_unless(handle_->check_usable());
  std::uint64_t from = 0;
  std::uint64_t count = 0;
  throw_unless(unsigned_of(position.ptr(), "position", from) &&
               unsigned_of(events_max.ptr(), "events_max", count));
  Result<EventPage> page = EventPage{};
  {
    const auto session = handle_->session();
    const WithoutGil without_gil;
    page = session->connector().events({from}, count);
  }
  if (!page) {
    if (page.error().code() == ErrorCode::kUnimplemented) return nb::none();
    PyErr_SetString(exceptions.error, page.error().to_string().c_str());
    throw nb::python_error();
  }
  const nb::object list = list_of(page->events.size(), [&](std::size_t i) {
    const EventPage::Event& event = page->events[i];
    return Py_BuildValue("(Ny#K)", new_bool(event.kind == EventPage::Kind::kStored),
                         event.key.data(), static_cast<Py_ssize_t>(event.key.size()),
                         static_cast<unsigned long long>(event.value_bytes));
  });
  return nb::make_tuple(list, page->next.position, page->lost);
}

}  // namespace larder::python
