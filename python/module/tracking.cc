// The part of Completions that tells more than LMCache's native contract asks: what became of each
// key, which keys came and went, and what is there.
#include "module/completions.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

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

nb::object outcomes_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  const nb::object codes =
      nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(batch.items.size())));
  throw_unless(codes.is_valid());
  char* code = PyBytes_AS_STRING(codes.ptr());
  std::size_t failed = 0;
  for (const Item& item : batch.items) {
    const KeyOutcome outcome = outcome_of(item);
    if (outcome == KeyOutcome::kFailed) ++failed;
    *code++ = static_cast<char>(outcome);
  }
  const std::string error = failed == 0 ? std::string{} : first_failure(batch, failed);
  const nb::object text = nb::steal(
      PyUnicode_DecodeUTF8(error.data(), static_cast<Py_ssize_t>(error.size()), "replace"));
  throw_unless(text.is_valid());
  return nb::make_tuple(operation.future_id, codes, text);
}

}  // namespace

std::uint64_t Completions::submit_batch_touch(nb::handle keys) {
  return submit(new_operation(keys), Op::kTouch, timeouts_.lookup_s);
}

nb::object Completions::drain_outcomes() {
  nb::list outcomes;
  if (handle_->is_closed()) return outcomes;
  throw_unless(handle_->check_usable());
  while (PythonOperation* const operation = take()) {
    const std::unique_ptr<PythonOperation> owned{operation};
    outcomes.append(outcomes_of(*owned));
  }
  return outcomes;
}

nb::object Completions::events(nb::handle position, nb::handle events_max) const {
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
