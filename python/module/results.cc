#include "module/results.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

PyObject* new_text(const std::string& text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

PyObject* new_none() {
  return Py_NewRef(Py_None);
}

/// The items' outcomes as bools.
nb::object outcomes_of(const Batch& batch, Outcome outcome) {
  return list_of(batch.items.size(),
                 [&](std::size_t i) { return new_bool(batch.items[i].outcome == outcome); });
}

PyObject* new_error(const Batch& batch, std::size_t i) {
  return batch.items[i].outcome == Outcome::kFailed ? new_text(describe_failure(batch, i))
                                                    : new_none();
}

/// A text for each item that failed, None for the others.
nb::object errors_of(const Batch& batch) {
  return list_of(batch.items.size(), [&](std::size_t i) { return new_error(batch, i); });
}

}  // namespace

nb::object tuple_of(std::initializer_list<nb::object> members) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(members.size())));
  throw_unless(tuple.is_valid());
  Py_ssize_t i = 0;
  for (const nb::object& member : members)
    PyTuple_SET_ITEM(tuple.ptr(), i++, member.inc_ref().ptr());
  return tuple;
}

void check_counts(const Arguments& arguments, const char* buffers) {
  if (arguments.keys().size() == arguments.slices().size()) return;
  PyErr_Format(PyExc_ValueError, "keys and %s: %zu keys, %zu %s; wanted one for each key", buffers,
               arguments.keys().size(), arguments.slices().size(), buffers);
  throw nb::python_error();
}

nb::object loads_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  return tuple_of({outcomes_of(batch, Outcome::kHit), outcomes_of(batch, Outcome::kFailed),
                   list_of(batch.items.size(),
                           [&](std::size_t i) {
                             const Item& item = batch.items[i];
                             return PyLong_FromUnsignedLongLong(
                                 item.outcome == Outcome::kHit ? item.value_bytes : 0);
                           }),
                   errors_of(batch)});
}

nb::object stores_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  return tuple_of(
      {outcomes_of(batch, Outcome::kDone),
       list_of(batch.items.size(), [&](std::size_t i) { return new_bool(batch.items[i].existed); }),
       outcomes_of(batch, Outcome::kFailed), errors_of(batch)});
}

nb::object sizes_of(const PythonOperation& operation) {
  return list_of(operation.items.size(), [&](std::size_t i) {
    const Item& item = operation.items[i];
    return item.outcome == Outcome::kHit ? PyLong_FromUnsignedLongLong(item.value_bytes)
                                         : new_none();
  });
}

nb::object existence_of(const PythonOperation& operation) {
  return list_of(operation.items.size(), [&](std::size_t i) {
    return new_bool(operation.items[i].outcome == Outcome::kHit);
  });
}

nb::object deletions_of(const PythonOperation& operation) {
  return tuple_of({outcomes_of(operation.batch, Outcome::kDone), errors_of(operation.batch)});
}

nb::object value_of(const PythonOperation& operation) {
  const Item& item = operation.items[0];
  nb::object error = nb::steal(new_error(operation.batch, 0));
  throw_unless(error.is_valid());
  if (item.outcome != Outcome::kHit) return tuple_of({nb::none(), error});
  const nb::object whole = nb::borrow(operation.arguments.owned());
  const auto stored = static_cast<Py_ssize_t>(item.value_bytes);
  if (stored == PyBytes_GET_SIZE(whole.ptr())) return tuple_of({whole, error});
  // It was replaced by a shorter one since its size was asked.
  nb::object shorter = nb::steal(PyBytes_FromStringAndSize(PyBytes_AS_STRING(whole.ptr()), stored));
  throw_unless(shorter.is_valid());
  return tuple_of({shorter, error});
}

nb::object page_of(const Handle& handle, std::uint64_t first_word, std::uint64_t second_word,
                   std::size_t keys_max) {
  throw_unless(handle.check_usable());
  Result<ScanPage> page = ScanPage{};
  {
    const auto session = handle.session();
    const WithoutGil without_gil;
    page = session->connector().scan({{first_word, second_word}}, keys_max);
  }
  if (!page) {
    const bool is_cursor_bad = page.error().code() == ErrorCode::kInvalidArgument;
    PyErr_SetString(is_cursor_bad ? PyExc_ValueError : exceptions.error,
                    page.error().to_string().c_str());
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
