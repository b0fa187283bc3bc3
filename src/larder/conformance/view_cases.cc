#include <algorithm>
#include <array>
#include <map>

#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"
#include "larder/connector/metrics.h"

namespace larder::conformance {
namespace {

Bytes value_of(std::uint64_t number) {
  return random_bytes(number, 1000 + number * 13);
}

void store_numbered(Session& session, std::uint64_t from, std::uint64_t to) {
  Request& store = session.make(Op::kSet);
  for (std::uint64_t i = from; i < to; ++i) store.add_set(numbered_key(i), value_of(i));
  session.run(store);
}

void the_report_is_sane(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Capabilities capabilities = session->connector().capabilities();
  const Report empty = session->connector().report();
  store_numbered(*session, 0, 100);
  const Report full = session->connector().report();
  for (std::uint64_t i = 0; i < 30; ++i) session->remove(numbered_key(i));
  const Report less = session->connector().report();

  context.expect(!empty.type.empty(), "the report names no type");
  context.expect(empty.keys == 0, "an empty connector has keys");
  context.expect(full.keys == 100, "100 keys count as " + std::to_string(full.keys));
  context.expect(less.keys == 70, "70 keys count as " + std::to_string(less.keys));
  // What was deleted before it was empty may still take room then, and make room meanwhile.
  context.expect(full.bytes_used > empty.bytes_used || empty.bytes_used > 0,
                 "bytes_used did not grow");
  for (const Report& report : {empty, full, less}) {
    context.expect(report.capacity_bytes == 0 || report.bytes_used <= report.capacity_bytes,
                   "bytes_used exceeds capacity");
    context.expect(report.health == Health::kHealthy || !report.reasons.empty(),
                   "not healthy, and no reason is given (P3)");
    context.expect(
        report.integrity == capabilities.integrity && report.locality == capabilities.locality,
        "report and capabilities differ");
  }
  for (const Metric& before : metrics_of(empty)) {
    if (!before.name.ends_with("_total")) continue;
    const std::string name = flat_name(before);
    const auto after = metric_value(less, name);
    context.expect(after && static_cast<double>(*after) >= before.value, name + " went back");
  }
  context.expect(capabilities.value_bytes_max > 0 && capabilities.slices_max > 0 &&
                     capabilities.buffer_alignment > 0,
                 "capabilities() lacks a limit");
}

void the_report_tells_what_callers_got(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const auto recent = [&](BatchClass batch_class) {
    return session->connector().report().recent(batch_class);
  };
  store_numbered(*session, 0, 40);
  const Health health_at_first = session->connector().report().health;
  Request& load = session->make(Op::kGet);
  for (std::uint64_t i = 0; i < 50; ++i) load.add_get(numbered_key(i), value_of(i).size());
  // Their caller's doing, which says nothing about the store.
  load.add_get("", 10).add_get(numbered_key(0), value_of(0).size() + 1);
  session->run(load);
  Request& touch = session->make(Op::kTouch).add(numbered_key(0)).add("absent");
  session->run(touch);
  context.expect(recent(BatchClass::kStore).succeeded == 40, "40 stores were not counted");
  context.expect(recent(BatchClass::kLoad).succeeded == 50, "50 loads were not counted");
  context.expect(recent(BatchClass::kLookup).succeeded == 2, "two lookups were not counted");
  context.expect(recent(BatchClass::kLoad).failed == 0, "failures of the caller were counted");
  context.expect(session->connector().report().health == health_at_first,
                 "failures of the caller changed the health");

  const BatchClass late[] = {BatchClass::kLoad, BatchClass::kStore};
  for (const BatchClass batch_class : late) {
    Request& request = session->make(batch_class == BatchClass::kLoad ? Op::kGet : Op::kSet);
    for (std::uint64_t i = 0; i < 20; ++i) {
      if (batch_class == BatchClass::kLoad) {
        request.add_get(numbered_key(i), value_of(i).size());
      } else {
        request.add_set(numbered_key(i), value_of(i));
      }
    }
    request.batch().deadline_ns = 1;
    session->run(request);
    const Report report = session->connector().report();
    context.expect(recent(batch_class).failed == 20,
                   "20 " + name_of(batch_class) + " past their deadline were not counted");
    context.expect(report.health != Health::kHealthy &&
                       std::ranges::any_of(report.reasons,
                                           [&](const std::string& reason) {
                                             return reason.find(name_of(batch_class)) !=
                                                    std::string::npos;
                                           }),
                   "a third of the " + name_of(batch_class) + " failed, and it looks healthy (P3)");
  }
}

/// Keys, bytes and batches of each operation, since it was opened and within the last minute.
void hits_misses_and_stores_are_counted(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  store_numbered(*session, 0, 40);
  Request& load = session->make(Op::kGet);
  for (std::uint64_t i = 0; i < 50; ++i) load.add_get(numbered_key(i), value_of(i).size());
  session->run(load);
  Request& lookup = session->make(Op::kExists);
  for (std::uint64_t i = 20; i < 50; ++i) lookup.add(numbered_key(i));
  session->run(lookup);
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < 40; ++i) bytes += value_of(i).size();
  std::uint64_t bytes_missed = 0;
  for (std::uint64_t i = 40; i < 50; ++i) bytes_missed += value_of(i).size();
  const Report report = session->connector().report();
  const auto expect = [&](Op op, const char* what, std::uint64_t OpTotals::* member,
                          std::uint64_t wanted) {
    const OpReport& counted = report.operation(op);
    for (const OpTotals* totals : {&counted.total, &counted.last_minute}) {
      context.expect(totals->*member == wanted,
                     std::string{kOpNames.at(index_of(op))} + ": " + what + " count as " +
                         std::to_string(totals->*member) + ", not " + std::to_string(wanted));
    }
  };
  expect(Op::kSet, "stores", &OpTotals::done, 40);
  expect(Op::kSet, "bytes", &OpTotals::bytes, bytes);
  expect(Op::kGet, "hits", &OpTotals::hits, 40);
  expect(Op::kGet, "bytes", &OpTotals::bytes, bytes);
  expect(Op::kGet, "bytes that were missed", &OpTotals::bytes_missed, bytes_missed);
  expect(Op::kExists, "hits", &OpTotals::hits, 20);
  for (const Op op : {Op::kGet, Op::kExists}) {
    const OpTotals& totals = report.operation(op).total;
    context.expect(
        totals.missed() == 10 && totals.misses[static_cast<std::size_t>(MissReason::kAbsent)] == 10,
        "10 keys that were never stored are no misses for being absent");
  }
  for (const BatchClass batch_class :
       {BatchClass::kLookup, BatchClass::kLoad, BatchClass::kStore}) {
    const ClassReport& counted = report.of_class(batch_class);
    context.expect(counted.latency.batches > 0 && counted.latency_last_minute.batches > 0,
                   "no time is known of " + name_of(batch_class));
    context.expect(counted.batches_in_flight == 0 && counted.batches_queued == 0 &&
                       counted.oldest_queued_ns == 0,
                   "nothing is under way, and the report says otherwise");
  }
}

void probe_agrees_with_exists(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  store_numbered(*session, 0, 50);
  Request& exists = session->make(Op::kExists);
  Request& probe = session->make(Op::kExists);
  for (Request* request : {&exists, &probe}) {
    for (std::uint64_t i = 0; i < 100; ++i) request->add(numbered_key(i));
    request->add("").add(std::string(kKeyBytesMax + 1, 'x'));
  }
  session->run(exists);
  probe.prepare();
  if (!session->connector().probe(probe.items())) {
    context.expect(!session->connector().capabilities().has_probe,
                   "it has a probe that does not answer");
    for (const Item& item : probe.items()) {
      context.expect(item.outcome == Outcome::kPending, "a probe without an answer changed items");
    }
    return;
  }
  for (std::size_t i = 0; i < exists.size(); ++i) {
    context.expect(probe.item(i).outcome == exists.item(i).outcome &&
                       probe.item(i).value_bytes == exists.item(i).value_bytes &&
                       probe.item(i).error.code() == exists.item(i).error.code(),
                   "probe and Exists differ for " + printable(exists.key(i)));
  }
}

/// Every entry of a scan, with how often it was seen. `between` runs after each page.
template <class Between>
std::map<std::string, std::pair<std::uint64_t, int>> scan_all(Context& context, Session& session,
                                                              const Between& between) {
  std::map<std::string, std::pair<std::uint64_t, int>> seen;
  ScanCursor cursor;
  for (int pages = 0; pages < 10'000; ++pages) {
    const auto page = session.connector().scan(cursor, 7);
    if (!context.expect(page.has_value(), "scan() failed")) return seen;
    context.expect(page->entries.size() <= 7, "a page is larger than was asked for");
    for (const auto& entry : page->entries) {
      auto& [bytes, times] = seen[entry.key];
      bytes = entry.value_bytes;
      ++times;
    }
    if (page->done) return seen;
    cursor = page->next;
    between(pages);
  }
  context.expect(false, "a scan does not end");
  return seen;
}

void a_scan_sees_every_key(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  if (!session->connector().capabilities().has_scan) {
    const auto page = session->connector().scan({}, 10);
    context.expect(!page && page.error().code() == ErrorCode::kUnimplemented,
                   "a scan that it does not have is not kUnimplemented");
    return;
  }
  context.expect(scan_all(context, *session, [](int) {}).empty(), "an empty connector has keys");

  store_numbered(*session, 0, 120);
  for (std::uint64_t i = 0; i < 20; ++i) session->remove(numbered_key(i));
  const auto quiet = scan_all(context, *session, [](int) {});
  context.expect(quiet.size() == 100, "of 100 keys it sees " + std::to_string(quiet.size()));

  // Others are stored, replaced, read and removed meanwhile; 40..119 are there all the time.
  const auto busy = scan_all(context, *session, [&](int page) {
    const auto number = static_cast<std::uint64_t>(page);
    if (number > 50) return;
    store_numbered(*session, 1000 + 3 * number, 1003 + 3 * number);
    session->set(numbered_key(40 + number % 80), value_of(40 + number % 80));
    session->expect_hit(numbered_key(119 - number % 80), value_of(119 - number % 80));
    if (number < 20) session->remove(numbered_key(20 + number));
  });
  for (std::uint64_t i = 40; i < 120; ++i) {
    const auto entry = busy.find(numbered_key(i));
    context.expect(entry != busy.end(), numbered_key(i) + " was there all the time and not seen");
    if (entry == busy.end()) continue;
    context.expect(entry->second.first == value_of(i).size(), "a scan tells a wrong size");
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    context.expect(!busy.contains(numbered_key(i)), "a scan shows a key that was deleted before");
  }
}

void events_tell_what_was_stored_and_removed(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  if (!session->connector().capabilities().has_events) {
    const auto page = session->connector().events({}, 10);
    context.expect(!page && page.error().code() == ErrorCode::kUnimplemented,
                   "events that it does not have are not kUnimplemented");
    return;
  }
  using Kind = EventPage::Kind;
  session->set("a", Bytes(10));
  session->set("b", Bytes(20));
  session->set("a", Bytes(30), SetMode::kIfAbsent);  // Existed: nothing was stored.
  session->remove("a");
  session->remove("a", Outcome::kMiss);

  std::vector<EventPage::Event> events;
  EventCursor cursor;
  while (true) {
    const auto page = session->connector().events(cursor, 2);
    if (!context.expect(page.has_value() && page->lost == 0 && page->events.size() <= 2,
                        "events() failed, or lost some, or gave too many")) {
      return;
    }
    if (page->events.empty()) break;
    events.insert(events.end(), page->events.begin(), page->events.end());
    cursor = page->next;
  }
  const auto is = [&](std::size_t i, Kind kind, std::string_view key) {
    return i < events.size() && events[i].kind == kind && events[i].key == key;
  };
  context.expect(events.size() == 3 && is(0, Kind::kStored, "a") && is(1, Kind::kStored, "b") &&
                     is(2, Kind::kRemoved, "a"),
                 "the events are not: a stored, b stored, a removed");
  if (events.size() == 3) {
    context.expect(events[0].value_bytes == 10 && events[1].value_bytes == 20,
                   "an event tells a wrong size");
  }
}

void what_was_stored_survives_reopening(Context& context) {
  {
    const auto session = Session::open(context, context.subject().open);
    if (!session) return;
    context.expect(session->connector().capabilities().survives_restart,
                   "capabilities() says that it does not survive");
    store_numbered(*session, 0, 200);
    for (std::uint64_t i = 0; i < 50; ++i) session->remove(numbered_key(i));
    for (std::uint64_t i = 50; i < 100; ++i) session->set(numbered_key(i), value_of(i + 1000));
    if (!session->close()) return;
  }
  for (int round = 0; round < 2; ++round) {
    const auto session = Session::open(context, context.subject().reopen);
    if (!session) return;
    context.expect(session->connector().report().keys == 150, "the number of keys has changed");
    for (std::uint64_t i = 0; i < 200; ++i) {
      if (i < 50) {
        session->expect_miss(numbered_key(i));
      } else {
        session->expect_hit(numbered_key(i), value_of(i < 100 ? i + 1000 : i));
      }
    }
    if (!session->close()) return;
  }
}

constexpr std::array kCases{
    Case{"the_report_is_sane", "P3", the_report_is_sane},
    Case{"the_report_tells_what_callers_got", "P3", the_report_tells_what_callers_got},
    Case{"hits_misses_and_stores_are_counted", "P3", hits_misses_and_stores_are_counted},
    Case{"probe_agrees_with_exists", "C4", probe_agrees_with_exists},
    Case{"a_scan_sees_every_key", "P2", a_scan_sees_every_key},
    Case{"events_tell_what_was_stored_and_removed", "P2", events_tell_what_was_stored_and_removed},
    Case{"what_was_stored_survives_reopening", "P6", what_was_stored_survives_reopening,
         [](const Subject& subject) { return subject.reopen != nullptr; }},
};

}  // namespace

std::span<const Case> view_cases() {
  return kCases;
}

}  // namespace larder::conformance
