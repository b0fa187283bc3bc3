#include "module/completions.h"

#include <algorithm>

namespace larder::python {
namespace nb = nanobind;
namespace {

// LMCache's own clients raise RuntimeError with these texts, and its tests read them.
constexpr const char* kEmpty = "keys list is empty";
constexpr const char* kMismatch = "keys and memviews size mismatch";

double timeout_of(nb::handle value, const char* name, double none) {
  double seconds = 0;
  throw_unless(seconds_of(value.ptr(), {.name = name, .none = none}, seconds));
  return seconds;
}

void fail_all(doors::Operation& operation, const Error& error) noexcept {
  for (Item& item : operation.items) {
    item.outcome = Outcome::kFailed;
    item.error = error;
  }
}

bool is_true(const Batch& batch, const Item& item) noexcept {
  return item.outcome == (batch.op == Op::kDelete ? Outcome::kDone : Outcome::kHit);
}

nb::object completion_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  const bool is_store = batch.op == Op::kSet;
  const auto failed =
      static_cast<std::size_t>(std::ranges::count(batch.items, Outcome::kFailed, &Item::outcome));
  // A failed load or lookup is a key that is not there; only a store has to be said to have failed.
  const bool is_ok = !is_store || failed == 0;
  const std::string error = is_ok ? std::string{} : first_failure(batch, failed);
  const nb::object results =
      is_store ? nb::none() : list_of(batch.items.size(), [&](std::size_t i) {
        return new_bool(is_true(batch, batch.items[i]));
      });
  const nb::object text = nb::steal(
      PyUnicode_DecodeUTF8(error.data(), static_cast<Py_ssize_t>(error.size()), "replace"));
  throw_unless(text.is_valid());
  return nb::make_tuple(operation.future_id, is_ok, text, results);
}

}  // namespace

std::string first_failure(const Batch& batch, std::size_t failed) {
  const auto at = std::ranges::find(batch.items, Outcome::kFailed, &Item::outcome);
  std::string text =
      describe_failure(batch, static_cast<std::size_t>(std::distance(batch.items.begin(), at)));
  if (failed > 1) text += " (and " + std::to_string(failed - 1) + " more keys)";
  return text;
}

Completions::Completions(nb::handle spec, nb::handle load_timeout, nb::handle store_timeout,
                         nb::handle lookup_timeout)
    : Completions(spec, {.load_s = timeout_of(load_timeout, "load_timeout", 30),
                         .store_s = timeout_of(store_timeout, "store_timeout", 60),
                         .lookup_s = timeout_of(lookup_timeout, "lookup_timeout", 10)}) {}

Completions::Completions(nb::handle spec, const Timeouts& timeouts)
    : EventClient(spec, true, Handle::kEndGraceNs), timeouts_(timeouts) {}

std::unique_ptr<PythonOperation> Completions::new_operation(nb::handle keys) const {
  throw_unless(handle_->check_usable());
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  if (operation->arguments.keys().empty()) {
    PyErr_SetString(PyExc_RuntimeError, kEmpty);
    throw nb::python_error();
  }
  return operation;
}

std::uint64_t Completions::submit(std::unique_ptr<PythonOperation> operation, Op op,
                                  double timeout_s) {
  const bool has_buffers = op == Op::kGet || op == Op::kSet;
  if (has_buffers && operation->arguments.keys().size() != operation->arguments.slices().size()) {
    PyErr_SetString(PyExc_RuntimeError, kMismatch);
    throw nb::python_error();
  }
  operation->prepare(op, RealClock::instance().now_ns() + ns_of(timeout_s));
  operation->is_taken = true;
  // A store that finds no room is a chunk that is not kept; LMCache goes on without it.
  operation->batch.waits_for_room = op != Op::kSet;
  operation->batch.urgency = op == Op::kSet ? Urgency::kStore : Urgency::kDemand;
  const std::uint64_t future_id = operation->future_id = ++last_future_id_;
  // Once it is the session's, another thread may have drained it.
  PythonOperation& unowned = *operation.release();
  const Result<bool> is_accepted = EventClient::submit(unowned);
  if (is_accepted && *is_accepted) return future_id;
  operation.reset(&unowned);
  if (!is_accepted) fail_all(unowned, is_accepted.error());
  // Closed by another thread meanwhile: as with what was in flight, no completion comes.
  if (const auto session = handle_->session()) session->post(*operation.release());
  return future_id;
}

std::uint64_t Completions::submit_batch_get(nb::handle keys, nb::handle memoryviews) {
  auto operation = new_operation(keys);
  throw_unless(operation->arguments.take_buffers(memoryviews.ptr(), "memoryviews", Access::kWrite));
  return submit(std::move(operation), Op::kGet, timeouts_.load_s);
}

std::uint64_t Completions::submit_batch_set(nb::handle keys, nb::handle memoryviews) {
  auto operation = new_operation(keys);
  throw_unless(operation->arguments.take_buffers(memoryviews.ptr(), "memoryviews", Access::kRead));
  return submit(std::move(operation), Op::kSet, timeouts_.store_s);
}

std::uint64_t Completions::submit_batch_exists(nb::handle keys) {
  return submit(new_operation(keys), Op::kExists, timeouts_.lookup_s);
}

std::uint64_t Completions::submit_batch_delete(nb::handle keys) {
  return submit(new_operation(keys), Op::kDelete, timeouts_.store_s);
}

nb::object Completions::drain_completions() {
  nb::list completions;
  if (handle_->is_closed()) return completions;
  throw_unless(handle_->check_usable());
  while (PythonOperation* const operation = take()) {
    const std::unique_ptr<PythonOperation> owned{operation};
    completions.append(completion_of(*owned));
  }
  return completions;
}

}  // namespace larder::python
