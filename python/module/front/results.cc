#include "module/front/results.h"

#include <algorithm>
#include <array>

#include "larder/connector/metrics.h"
#include "module/back/python_registry.h"
#include "module/front/requests.h"

namespace larder::python {
namespace nb = nanobind;
namespace {

/// The keys of a page, which no other code holds.
struct PageDeletion : PythonOperation {
  ScanPage page;
};

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

PyObject* new_size(const Item& item) {
  return item.outcome == Outcome::kHit ? PyLong_FromUnsignedLongLong(item.value_bytes) : new_none();
}

bool is_size_wrong(const Item& item) noexcept {
  return item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kSizeMismatch;
}

/// A text for each item that failed, None for the others.
nb::object errors_of(const Batch& batch) {
  return list_of(batch.items.size(), [&](std::size_t i) { return new_error(batch, i); });
}

Result<ScanPage> read_page(const Handle& handle, ScanCursor from, std::uint64_t keys_max,
                           std::span<const std::byte> prefix) {
  const auto session = handle.session();
  const WithoutGil without_gil;
  auto page = session->connector().scan(from, keys_max);
  if (page && !prefix.empty()) {
    const std::string_view wanted{reinterpret_cast<const char*>(prefix.data()), prefix.size()};
    std::erase_if(page->entries, [&](const ScanPage::Entry& entry) {
      return !std::string_view{entry.key}.starts_with(wanted);
    });
  }
  return page;
}

/// Throws where there is no page.
ScanPage page_after(const Handle& handle, nb::handle first_word, nb::handle second_word,
                    nb::handle keys_max, std::span<const std::byte> prefix) {
  throw_unless(handle.check_usable());
  ScanCursor from;
  std::uint64_t count = 0;
  throw_unless(unsigned_of(first_word.ptr(), "first_word", from.words[0]) &&
               unsigned_of(second_word.ptr(), "second_word", from.words[1]) &&
               unsigned_of(keys_max.ptr(), "keys_max", count));
  auto page = read_page(handle, from, count, prefix);
  if (page) return std::move(*page);
  PyObject* kind = exceptions.error;
  if (page.error().code() == ErrorCode::kInvalidArgument) kind = PyExc_ValueError;
  if (page.error().code() == ErrorCode::kUnimplemented) kind = exceptions.unsupported;
  PyErr_SetString(kind, page.error().to_string().c_str());
  throw nb::python_error();
}

nb::object cursor_of(const ScanPage& page) {
  nb::object next =
      nb::steal(Py_BuildValue("(KK)", static_cast<unsigned long long>(page.next.words[0]),
                              static_cast<unsigned long long>(page.next.words[1])));
  throw_unless(next.is_valid());
  return next;
}

nb::object what_if_of(const WhatIf& what_if) {
  if (what_if.is_empty()) return nb::none();
  const auto rate = [](const std::optional<double>& value) -> nb::object {
    return value ? nb::object{nb::float_(*value)} : nb::none();
  };
  nb::dict points;
  for (std::size_t i = 0; i < what_if.points.size(); ++i) {
    const WhatIf::Point& point = what_if.points.at(i);
    const nb::object capacity =
        point.capacity_bytes == 0 ? nb::none() : nb::object{nb::int_(point.capacity_bytes)};
    points[kWhatIfNames.at(i)] = nb::make_tuple(capacity, rate(point.hit_rate));
  }
  nb::dict result;
  result["points"] = points;
  result["measured"] = rate(what_if.measured);
  result["asked"] = nb::int_(static_cast<std::uint64_t>(what_if.asked));
  result["of"] = name_of(what_if.of);
  return result;
}

}  // namespace

PyObject* new_text(const std::string& text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

nb::object tuple_of(std::initializer_list<nb::object> members) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(members.size())));
  throw_unless(tuple.is_valid());
  Py_ssize_t i = 0;
  for (const nb::object& member : members)
    PyTuple_SET_ITEM(tuple.ptr(), i++, member.inc_ref().ptr());
  return tuple;
}

std::shared_ptr<Handle> open_handle(nb::handle spec, const doors::SessionOptions& options,
                                    std::uint64_t end_grace_ns) {
  std::string text;
  throw_unless(text_of(spec.ptr(), "spec", text));
  auto handle = Handle::open(text, options, end_grace_ns);
  throw_unless(handle != nullptr);
  return handle;
}

std::uint64_t room_after(const Item& item, std::uint64_t room) noexcept {
  if (!is_size_wrong(item) || item.value_bytes <= room || item.value_bytes > kValueBytesMax) {
    return 0;
  }
  return std::max(item.value_bytes, std::min(2 * room, kValueBytesMax));
}

nb::object loads_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  return tuple_of({outcomes_of(batch, Outcome::kHit), outcomes_of(batch, Outcome::kFailed),
                   list_of(batch.items.size(),
                           [&](std::size_t i) {
                             const Item& item = batch.items[i];
                             const bool is_known =
                                 item.outcome == Outcome::kHit || is_size_wrong(item);
                             return PyLong_FromUnsignedLongLong(is_known ? item.value_bytes : 0);
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
  return list_of(operation.items.size(),
                 [&](std::size_t i) { return new_size(operation.items[i]); });
}

nb::object size_of_one(const PythonOperation& operation) {
  nb::object size = nb::steal(new_size(operation.items[0]));
  nb::object error = nb::steal(new_error(operation.batch, 0));
  throw_unless(size.is_valid() && error.is_valid());
  return tuple_of({std::move(size), std::move(error)});
}

nb::object seconds_or_none(std::uint64_t duration_ns) {
  if (duration_ns == kNever) return nb::none();
  return nb::float_(static_cast<double>(duration_ns) / 1e9);
}

void note_load_ns(PythonOperation& operation, const Handle& handle) {
  if (!operation.batch.wants_places) return;
  const auto session = handle.session();
  if (session == nullptr) return;
  const WithoutGil without_gil;
  operation.load_ns = load_ns_of(session->connector(), operation.items);
}

nb::object lookups_of(const PythonOperation& operation) {
  const nb::object found = loads_of(operation);
  return tuple_of({found[0], found[1], found[2], found[3], seconds_or_none(operation.load_ns)});
}

nb::object touches_of(const PythonOperation& operation) {
  const Batch& batch = operation.batch;
  nb::object unsupported = nb::none();
  for (const Item& item : batch.items) {
    if (item.outcome != Outcome::kFailed || item.error.code() != ErrorCode::kUnimplemented) {
      continue;
    }
    unsupported = nb::steal(new_text(item.error.to_string()));
    throw_unless(unsupported.is_valid());
    break;
  }
  return tuple_of({outcomes_of(batch, Outcome::kDone), outcomes_of(batch, Outcome::kFailed),
                   errors_of(batch), unsupported});
}

nb::object hints_of(const Handle& handle) {
  throw_unless(handle.check_usable());
  const HintMask hints = handle.session()->connector().capabilities().hints;
  nb::list names;
  for (std::size_t i = 1; i < kHintCount; ++i) {
    if ((hints & bit_of(static_cast<Hint>(i))) != 0) names.append(nb::str(kHintNames.at(i)));
  }
  return names;
}

nb::object existence_of(const PythonOperation& operation) {
  return list_of(operation.items.size(), [&](std::size_t i) {
    return new_bool(operation.items[i].outcome == Outcome::kHit);
  });
}

nb::object deletions_of(const PythonOperation& operation) {
  return tuple_of({outcomes_of(operation.batch, Outcome::kDone), errors_of(operation.batch)});
}

nb::object bytes_of_load(const PythonOperation& operation) {
  const Item& item = operation.items[0];
  if (item.outcome != Outcome::kHit) return nb::none();
  const nb::object whole = nb::borrow(operation.arguments.owned());
  const auto stored = static_cast<Py_ssize_t>(item.value_bytes);
  if (stored == PyBytes_GET_SIZE(whole.ptr())) return whole;
  // It was replaced by a shorter one since its size was asked.
  nb::object shorter = nb::steal(PyBytes_FromStringAndSize(PyBytes_AS_STRING(whole.ptr()), stored));
  throw_unless(shorter.is_valid());
  return shorter;
}

nb::object value_of(const PythonOperation& operation) {
  const nb::object error = nb::steal(new_error(operation.batch, 0));
  throw_unless(error.is_valid());
  const Item& item = operation.items[0];
  const nb::object room =
      nb::steal(PyLong_FromUnsignedLongLong(room_after(item, bytes_of(item.value))));
  throw_unless(room.is_valid());
  return tuple_of({bytes_of_load(operation), error, room});
}

nb::object page_of(const Handle& handle, nb::handle first_word, nb::handle second_word,
                   nb::handle keys_max, nb::handle prefix) {
  Arguments arguments;
  throw_unless(arguments.take_key(prefix.ptr(), "prefix"));
  const ScanPage page =
      page_after(handle, first_word, second_word, keys_max, arguments.keys().front());
  const nb::object entries = list_of(page.entries.size(), [&](std::size_t i) {
    const ScanPage::Entry& entry = page.entries[i];
    return Py_BuildValue("(y#K)", entry.key.data(), static_cast<Py_ssize_t>(entry.key.size()),
                         static_cast<unsigned long long>(entry.value_bytes));
  });
  return tuple_of({entries, cursor_of(page), nb::steal(new_bool(page.done))});
}

nb::object deleted_page_of(Handle& handle, nb::handle first_word, nb::handle second_word,
                           nb::handle keys_max, nb::handle prefix, nb::handle timeout) {
  const std::uint64_t deadline_ns = deadline_after(timeout);
  Arguments arguments;
  throw_unless(arguments.take_key(prefix.ptr(), "prefix"));
  auto deletion = std::make_unique<PageDeletion>();
  deletion->page = page_after(handle, first_word, second_word, keys_max, arguments.keys().front());
  const nb::object next = cursor_of(deletion->page);
  const bool is_done = deletion->page.done;
  std::unique_ptr<PythonOperation> operation;
  if (const auto& entries = deletion->page.entries; !entries.empty()) {
    deletion->items.resize(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      deletion->items[i].key = std::as_bytes(std::span{entries[i].key});
    }
    deletion->batch.op = Op::kDelete;
    deletion->batch.deadline_ns = deadline_ns;
    operation = handle.run(std::move(deletion));
    throw_unless(operation != nullptr);
  }
  const std::span<const Item> items = operation ? operation->batch.items : std::span<Item>{};
  const auto failed = std::ranges::count(items, Outcome::kFailed, &Item::outcome);
  return tuple_of(
      {nb::int_(std::ranges::count(items, Outcome::kDone, &Item::outcome)), nb::int_(failed),
       failed == 0
           ? nb::none()
           : nb::steal(new_text(first_failure(operation->batch, static_cast<std::size_t>(failed)))),
       next, nb::steal(new_bool(is_done))});
}

nb::object report_of(const Handle& handle) {
  throw_unless(handle.check_usable());
  const auto session = handle.session();
  Report report;
  {
    const WithoutGil without_gil;
    report = session->report();
  }
  // A number with a field of its own below is not among the counters too.
  constexpr std::array<std::string_view, 5> kFields{"health", "is_failing", "bytes_used",
                                                    "capacity_bytes", "keys"};
  nb::dict counters;
  nb::dict times;
  for (const Metric& metric : metrics_of(report)) {
    if (std::ranges::find(kFields, metric.name) != kFields.end()) continue;
    if (metric.name.starts_with("what_if_")) continue;
    const std::string name = flat_name(metric);
    if (metric.name.ends_with("_seconds")) {
      times[name.c_str()] = metric.value;
    } else {
      counters[name.c_str()] = static_cast<std::uint64_t>(metric.value);
    }
  }
  nb::dict properties;
  for (const auto& [name, value] : report.properties) properties[name.c_str()] = value;
  nb::list reasons;
  for (const std::string& reason : report.reasons) reasons.append(reason);
  nb::dict result;
  result["type"] = report.type;
  result["where"] = nb::steal(new_text(report.where));
  result["health"] = name_of(report.health);
  result["is_failing"] = report.is_failing();
  nb::dict recent;
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const auto batch_class = static_cast<BatchClass>(i);
    const RecentOutcomes outcomes = report.recent(batch_class);
    recent[name_of(batch_class).c_str()] = nb::make_tuple(outcomes.succeeded, outcomes.failed);
  }
  result["recent"] = recent;
  result["reasons"] = reasons;
  result["bytes_used"] = report.bytes_used;
  result["capacity_bytes"] = report.capacity_bytes;
  result["keys"] = report.keys;
  result["integrity"] = name_of(report.integrity);
  result["locality"] = name_of(report.locality);
  result["properties"] = properties;
  result["counters"] = counters;
  result["times"] = times;
  result["what_if"] = what_if_of(report.what_if);
  return result;
}

nb::object seconds_to_load(std::uint64_t values, std::uint64_t bytes) {
  std::uint64_t quickest_ns = kNever;
  const auto sessions = Handle::open_sessions();
  {
    const WithoutGil without_gil;
    for (const auto& session : sessions) {
      std::uint64_t slowest_ns = 0;
      for (std::size_t place = 0; place < kPlacesMax; ++place) {
        const LoadSize size{static_cast<std::uint8_t>(place), values, bytes};
        const std::uint64_t ns = session->connector().load_ns({&size, 1});
        if (ns != kNever) slowest_ns = std::max(slowest_ns, ns);
      }
      if (slowest_ns > 0) quickest_ns = std::min(quickest_ns, slowest_ns);
    }
  }
  return seconds_or_none(quickest_ns);
}

nb::object metrics_text() {
  const auto sessions = Handle::open_sessions();
  std::string text;
  {
    const WithoutGil without_gil;
    std::vector<MetricRow> own;
    for (const ConnectorType* const type : python_registry().types()) {
      own.insert(own.end(), type->metrics.begin(), type->metrics.end());
    }
    std::vector<Report> reports;
    for (const auto& session : sessions) reports.push_back(session->report());
    text = prometheus_text(reports, own);
  }
  return nb::steal(new_text(text));
}

}  // namespace larder::python
