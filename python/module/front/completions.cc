#include "module/front/completions.h"

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

bool is_true(const Batch& batch, const Item& item) noexcept {
  return item.outcome == (batch.op == Op::kDelete ? Outcome::kDone : Outcome::kHit);
}

nb::object completion_of(const PythonOperation& operation, bool wants_sizes) {
  const Batch& batch = operation.batch;
  const bool is_store = batch.op == Op::kSet;
  const auto failed =
      static_cast<std::size_t>(std::ranges::count(batch.items, Outcome::kFailed, &Item::outcome));
  // A failed load or lookup is reported as an absent key; only a failed store is an error.
  const bool is_ok = !is_store || failed == 0;
  const std::string error = is_ok ? std::string{} : first_failure(batch, failed);
  nb::object results = nb::none();
  if (wants_sizes) {
    results = sizes_of(operation);
  } else if (!is_store) {
    results = list_of(batch.items.size(),
                      [&](std::size_t i) { return new_bool(is_true(batch, batch.items[i])); });
  }
  const nb::object text = nb::steal(new_text(error));
  throw_unless(text.is_valid());
  return nb::make_tuple(operation.future_id, is_ok, text, results);
}

}  // namespace

Completions::Completions(nb::handle spec, nb::handle load_timeout, nb::handle store_timeout,
                         nb::handle lookup_timeout)
    : Completions(spec, {.load_s = timeout_of(load_timeout, "load_timeout", 30),
                         .store_s = timeout_of(store_timeout, "store_timeout", 60),
                         .lookup_s = timeout_of(lookup_timeout, "lookup_timeout", 10)}) {}

Completions::Completions(nb::handle spec, const Timeouts& timeouts)
    : BatchClient(spec, Handle::kEndGraceNs), timeouts_(timeouts) {}

std::shared_ptr<BatchClient::Operation> Completions::new_operation(nb::handle keys) const {
  auto operation = BatchClient::new_operation(keys);
  if (operation->arguments.keys().empty()) {
    PyErr_SetString(PyExc_RuntimeError, kEmpty);
    throw nb::python_error();
  }
  return operation;
}

std::uint64_t Completions::submit(const std::shared_ptr<Operation>& operation, Op op,
                                  double timeout_s, nb::handle id) {
  const bool has_buffers = op == Op::kGet || op == Op::kSet;
  const Arguments& arguments = operation->arguments;
  if (has_buffers && arguments.keys().size() != arguments.value_count()) {
    PyErr_SetString(PyExc_RuntimeError, kMismatch);
    throw nb::python_error();
  }
  operation->prepare(op, RealClock::instance().now_ns() + ns_of(timeout_s));
  // A store without room is a chunk that is not kept; LMCache continues without it.
  operation->batch.waits_for_room = op != Op::kSet;
  operation->batch.urgency = op == Op::kSet ? Urgency::kStore : Urgency::kDemand;
  return BatchClient::submit(operation, id);
}

std::uint64_t Completions::submit_batch_get(nb::handle keys, nb::handle memoryviews,
                                            nb::handle id) {
  const auto operation = new_operation(keys);
  throw_unless(operation->arguments.take_buffers(memoryviews.ptr(), "memoryviews", Access::kWrite));
  return submit(operation, Op::kGet, timeouts_.load_s, id);
}

std::uint64_t Completions::submit_batch_set(nb::handle keys, nb::handle memoryviews,
                                            nb::handle id) {
  const auto operation = new_operation(keys);
  throw_unless(operation->arguments.take_buffers(memoryviews.ptr(), "memoryviews", Access::kRead));
  return submit(operation, Op::kSet, timeouts_.store_s, id);
}

std::uint64_t Completions::submit_batch_exists(nb::handle keys, nb::handle id) {
  return submit(new_operation(keys), Op::kExists, timeouts_.lookup_s, id);
}

std::uint64_t Completions::submit_batch_delete(nb::handle keys, nb::handle id) {
  return submit(new_operation(keys), Op::kDelete, timeouts_.store_s, id);
}

std::uint64_t Completions::submit_batch_sizes(nb::handle keys, nb::handle id) {
  const auto operation = new_operation(keys);
  operation->wants_sizes = true;
  return submit(operation, Op::kExists, timeouts_.lookup_s, id);
}

std::uint64_t Completions::submit_batch_touch(nb::handle keys, nb::handle id) {
  return submit(new_operation(keys), Op::kTouch, timeouts_.lookup_s, id);
}

nb::object Completions::drain_completions() {
  nb::list completions;
  if (handle_->is_closed()) return completions;
  throw_unless(handle_->check_usable());
  while (const auto operation = take_batch()) {
    completions.append(completion_of(*operation, operation->wants_sizes));
  }
  return completions;
}

}  // namespace larder::python
