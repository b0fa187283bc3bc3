#include "module/client.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

PyObject* new_text(const std::string& text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

PyObject* new_none() {
  return Py_NewRef(Py_None);
}

/// A text for each item that failed, None for the others.
nb::object errors_of(const Batch& batch) {
  return list_of(batch.items.size(), [&](std::size_t i) {
    return batch.items[i].outcome == Outcome::kFailed ? new_text(describe_failure(batch, i))
                                                      : new_none();
  });
}

void check_counts(const Arguments& arguments, const char* buffers) {
  if (arguments.keys().size() == arguments.slices().size()) return;
  PyErr_Format(PyExc_ValueError, "keys and %s: %zu keys, %zu %s; wanted one for each key", buffers,
               arguments.keys().size(), arguments.slices().size(), buffers);
  throw nb::python_error();
}

nb::object tuple_of(std::initializer_list<nb::object> members) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(members.size())));
  throw_unless(tuple.is_valid());
  Py_ssize_t i = 0;
  for (const nb::object& member : members)
    PyTuple_SET_ITEM(tuple.ptr(), i++, member.inc_ref().ptr());
  return tuple;
}

}  // namespace

Client::Client(const std::string& spec) : handle_(Handle::open(spec, false)) {
  throw_unless(handle_ != nullptr);
}

Client::~Client() {
  if (handle_ != nullptr) Handle::let_go(std::move(handle_));
}

nb::object Client::get_into(nb::handle keys, nb::handle buffers, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys") &&
               operation->arguments.take_buffers(buffers.ptr(), "buffers", Access::kWrite));
  check_counts(operation->arguments, "buffers");
  operation->prepare(Op::kGet, deadline_ns);
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  const Batch& batch = operation->batch;
  return tuple_of({outcomes_of(batch, Outcome::kHit), outcomes_of(batch, Outcome::kFailed),
                   list_of(batch.items.size(),
                           [&](std::size_t i) {
                             const Item& item = batch.items[i];
                             return PyLong_FromUnsignedLongLong(
                                 item.outcome == Outcome::kHit ? item.value_bytes : 0);
                           }),
                   errors_of(batch)});
}

nb::object Client::get(nb::handle key, nb::handle timeout) {
  const nb::object keys = nb::steal(PyTuple_Pack(1, key.ptr()));
  throw_unless(keys.is_valid());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  const auto found = look_up(keys, timeout);
  if (found->items[0].outcome != Outcome::kHit) return nb::none();
  const auto bytes = static_cast<Py_ssize_t>(found->items[0].value_bytes);
  PyObject* value = PyBytes_FromStringAndSize(nullptr, bytes);
  throw_unless(value != nullptr);

  auto operation = std::make_unique<PythonOperation>();
  operation->arguments.add_owned(value, reinterpret_cast<std::byte*>(PyBytes_AS_STRING(value)),
                                 static_cast<std::size_t>(bytes));
  throw_unless(operation->arguments.take_keys(keys.ptr(), "key"));
  operation->prepare(Op::kGet, deadline_ns);
  operation->batch.allow_shorter = true;  // It may have been replaced since.
  operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  const Item& item = operation->items[0];
  if (item.outcome == Outcome::kMiss) return nb::none();
  if (item.outcome == Outcome::kFailed) {
    PyErr_SetString(exceptions.error, describe_failure(operation->batch, 0).c_str());
    throw nb::python_error();
  }
  const auto stored = static_cast<Py_ssize_t>(item.value_bytes);
  if (stored == bytes) return nb::borrow(value);
  nb::object shorter = nb::steal(PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), stored));
  throw_unless(shorter.is_valid());
  return shorter;
}

nb::object Client::set_many(nb::handle keys, nb::handle values, bool replaces, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys") &&
               operation->arguments.take_buffers(values.ptr(), "values", Access::kRead));
  check_counts(operation->arguments, "values");
  operation->prepare(Op::kSet, deadline_ns);
  operation->batch.set_mode = replaces ? SetMode::kReplace : SetMode::kIfAbsent;
  operation->batch.urgency = Urgency::kStore;
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  const Batch& batch = operation->batch;
  return tuple_of(
      {outcomes_of(batch, Outcome::kDone),
       list_of(batch.items.size(), [&](std::size_t i) { return new_bool(batch.items[i].existed); }),
       outcomes_of(batch, Outcome::kFailed), errors_of(batch)});
}

std::unique_ptr<PythonOperation> Client::look_up(nb::handle keys, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  operation->prepare(Op::kExists, deadline_ns);
  if (operation->items.empty()) return operation;
  bool is_answered = false;
  {
    const auto session = handle_->session();
    const WithoutGil without_gil;
    is_answered = session->probe(operation->items);
  }
  if (!is_answered) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return operation;
}

nb::object Client::sizes(nb::handle keys, nb::handle timeout) {
  const auto operation = look_up(keys, timeout);
  return list_of(operation->items.size(), [&](std::size_t i) {
    const Item& item = operation->items[i];
    return item.outcome == Outcome::kHit ? PyLong_FromUnsignedLongLong(item.value_bytes)
                                         : new_none();
  });
}

nb::object Client::exists(nb::handle keys, nb::handle timeout) {
  const auto operation = look_up(keys, timeout);
  return list_of(operation->items.size(), [&](std::size_t i) {
    return new_bool(operation->items[i].outcome == Outcome::kHit);
  });
}

nb::object Client::remove(nb::handle keys, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  operation->prepare(Op::kDelete, deadline_ns);
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return tuple_of({outcomes_of(operation->batch, Outcome::kDone), errors_of(operation->batch)});
}

nb::object Client::scan(std::uint64_t first_word, std::uint64_t second_word, std::size_t keys_max) {
  throw_unless(handle_->check_usable());
  Result<ScanPage> page = ScanPage{};
  {
    const auto session = handle_->session();
    const WithoutGil without_gil;
    page = session->connector().scan({{first_word, second_word}}, keys_max);
  }
  if (!page) {
    PyErr_SetString(exceptions.error, page.error().to_string().c_str());
    throw nb::python_error();
  }
  const nb::object entries = list_of(page->entries.size(), [&](std::size_t i) {
    const ScanPage::Entry& entry = page->entries[i];
    return Py_BuildValue("(y#K)", entry.key.data(), static_cast<Py_ssize_t>(entry.key.size()),
                         static_cast<unsigned long long>(entry.value_bytes));
  });
  const nb::object next =
      nb::steal(Py_BuildValue("(KK)", static_cast<unsigned long long>(page->next.words[0]),
                              static_cast<unsigned long long>(page->next.words[1])));
  throw_unless(next.is_valid());
  return tuple_of({entries, next, nb::steal(new_bool(page->done))});
}

nb::object Client::report() const {
  return report_of(*handle_);
}

void Client::close(double grace_s, double timeout_s) {
  throw_unless(handle_->close(ns_of(grace_s), ns_of(timeout_s)));
}

nb::object report_of(const Handle& handle) {
  throw_unless(handle.check_usable());
  const auto session = handle.session();
  Report report;
  {
    const WithoutGil without_gil;
    report = session->connector().report();
  }
  nb::dict counters;
  for (const Counter& counter : report.counters) counters[counter.name.c_str()] = counter.value;
  counters["door_queued_total"] = session->queued_total();
  counters["door_refused_total"] = session->refused_total();
  nb::dict properties;
  for (const auto& [name, value] : report.properties) properties[name.c_str()] = value;
  nb::list reasons;
  for (const std::string& reason : report.reasons) reasons.append(reason);
  nb::dict result;
  result["type"] = report.type;
  result["where"] = nb::steal(new_text(report.where));
  result["health"] = name_of(report.health);
  result["reasons"] = reasons;
  result["bytes_used"] = report.bytes_used;
  result["capacity_bytes"] = report.capacity_bytes;
  result["keys"] = report.keys;
  result["integrity"] = name_of(report.integrity);
  result["locality"] = name_of(report.locality);
  result["properties"] = properties;
  result["counters"] = counters;
  return result;
}

}  // namespace larder::python
