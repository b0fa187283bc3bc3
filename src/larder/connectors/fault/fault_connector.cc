#include "larder/connectors/fault/fault_connector.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>

#include "larder/base/clock.h"
#include "larder/connector/metrics.h"

namespace larder::fault {
namespace {

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

IntakeOptions intake_options(const BatchLimitOptions& limits, HintMask hints) {
  IntakeOptions made;
  made.name = "fault";
  // Faults are numbered in the order in which batches are taken, whatever their operation.
  made.lane_of = [](Op) noexcept -> LaneNumber { return 0; };
  made.limits = limits;
  made.slices_max = kItemsMax;  // The inner connector knows its own.
  made.hints = hints;
  return made;
}

}  // namespace

SetupResult<std::unique_ptr<Connector>> FaultConnector::create(std::unique_ptr<Connector> inner,
                                                               const FaultOptions& options,
                                                               const BatchLimitOptions& limits) {
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), "fault: " + wake.error().to_string()};
  std::unique_ptr<FaultConnector> made{
      new FaultConnector(std::move(inner), options, limits, std::move(wake).value())};
  const Status started = made->reactor_.start();
  if (!started) return SetupError{started.error().code(), "fault: " + started.error().to_string()};
  return made;
}

FaultConnector::FaultConnector(std::unique_ptr<Connector> inner, const FaultOptions& options,
                               const BatchLimitOptions& limits, EventFd wake)
    : inner_(std::move(inner)),
      options_(options),
      intake_(intake_options(limits, inner_->capabilities().hints), RealClock::instance()),
      fan_out_({inner_.get()}),
      wake_(std::move(wake)),
      reactor_(*this, intake_, {.name = "larder-fault"}) {}

Status FaultConnector::stop(std::uint64_t deadline_ns) noexcept {
  intake_.stop();
  LARDER_TRY(inner_->stop(deadline_ns));
  return reactor_.stop(deadline_ns);
}

// --- The machine --------------------------------------------------------------------------------

void FaultConnector::turn() noexcept {
  fan_out_.reap();
  intake_.expire();
  constexpr TicketSize kWholeBatch{.tickets_max = 1};
  while (const Ticket ticket = intake_.take(0, 0, kWholeBatch)) start(*ticket.batch);
  fan_out_.reap();  // Some are back at once.
  const std::uint64_t now = now_ns();
  next_timer_ns_ = intake_.next_deadline_ns();
  for (auto at = flights_.begin(); at != flights_.end();) {
    Flight& flight = *at;
    if (!flight.is_cancelled && Intake::is_cancelled(*flight.outer)) {
      flight.is_cancelled = true;
      fan_out_.cancel(flight.split);
    }
    Error error;
    if (flight.split.is_out() || !is_due(flight, now, error)) {
      if (!flight.split.is_out()) {
        next_timer_ns_ =
            std::min({next_timer_ns_, flight.held_until_ns, flight.outer->deadline_ns});
      }
      ++at;
      continue;
    }
    finish(flight, error);
    at = flights_.erase(at);
  }
}

void FaultConnector::wait(std::uint64_t until_ns) noexcept {
  wait_readable(wake_.get(), inner_->event_fd(), until_ns);
  wake_.drain();
}

void FaultConnector::start(Batch& batch) noexcept {
  Flight& flight = flights_.emplace_back();
  flight.outer = &batch;
  fan_out_.begin(flight.split, batch);
  try {
    plan(flight);
  } catch (const std::bad_alloc&) {
    flight.fates.clear();  // Nothing was submitted: finish() fails all open items.
    return;
  }
  fan_out_.submit(flight.split);
}

void FaultConnector::plan(Flight& flight) {
  Batch& outer = *flight.outer;
  const auto op = static_cast<std::size_t>(outer.op);
  const std::uint64_t now = now_ns();
  const std::uint64_t first_number = items_seen_[op] + 1;
  items_seen_[op] += outer.items.size();
  const std::uint64_t batch_number = ++batches_seen_[op];
  flight.fates.assign(outer.items.size(), Fate::kEnded);
  if (options_.is_hit(FaultKind::kStall, outer.op, batch_number)) {
    flight.is_stalled = true;
    flight.held_until_ns = now + options_.stall_ns;
    count(FaultKind::kStall);
  } else if (options_.is_hit(FaultKind::kDelay, outer.op, batch_number)) {
    flight.held_until_ns = now + options_.delay_ns;
    count(FaultKind::kDelay);
  }
  for (std::size_t i = 0; i < outer.items.size(); ++i) {
    if (!intake_.begin(outer, outer.items[i])) continue;
    flight.fates[i] = flight.is_stalled ? Fate::kForward : fate_of(flight, i, first_number + i);
    if (flight.is_stalled || flight.fates[i] != Fate::kForward) continue;
    fan_out_.add(flight.split, 0, static_cast<std::uint32_t>(i),
                 intake_.set_mode_of(outer, outer.items[i]));
  }
  end_own(flight);
}

FaultConnector::Fate FaultConnector::fate_of(Flight& flight, std::size_t place,
                                             std::uint64_t number) {
  const Batch& outer = *flight.outer;
  const Op op = outer.op;
  if (options_.is_hit(FaultKind::kError, op, number)) return Fate::kFail;
  if (op == Op::kGet &&
      options_.gaps.is_hit(outer.items[place].key, place, outer.items.size(), options_.seed)) {
    return Fate::kFail;
  }
  const bool has_value = op == Op::kSet || op == Op::kGet;
  if (has_value && options_.is_hit(FaultKind::kDrop, op, number)) return Fate::kDrop;
  if (op == Op::kGet && options_.is_hit(FaultKind::kCorrupt, op, number)) {
    flight.corrupted.push_back(place);
  }
  return Fate::kForward;
}

/// Ends the items that the inner connector never sees.
void FaultConnector::end_own(Flight& flight) noexcept {
  Batch& outer = *flight.outer;
  for (std::size_t i = 0; i < outer.items.size(); ++i) {
    Item& item = outer.items[i];
    if (flight.fates[i] == Fate::kFail) {
      count(FaultKind::kError);
      intake_.end(outer, item, Error::from_errno(EIO, "fault", "an injected error"));
    } else if (flight.fates[i] == Fate::kDrop) {
      count(FaultKind::kDrop);
      item.outcome = outer.op == Op::kSet ? Outcome::kDone : Outcome::kMiss;
      intake_.end(outer, item, {});
    } else {
      continue;
    }
    flight.fates[i] = Fate::kEnded;
  }
}

bool FaultConnector::is_due(const Flight& flight, std::uint64_t now_ns,
                            Error& error) const noexcept {
  if (flight.held_until_ns == 0) return true;
  if (flight.is_cancelled || is_ending_) {
    error = {ErrorCode::kCancelled, "fault", "cancelled while it was held"};
  } else if (flight.outer->deadline_ns <= now_ns) {
    error = {ErrorCode::kDeadlineExceeded, "fault", "held beyond its deadline"};
  } else if (flight.held_until_ns > now_ns) {
    return false;
  } else if (flight.is_stalled) {
    error = {ErrorCode::kUnavailable, "fault", "an injected stall"};
  }
  return true;
}

/// Gives `error` to every open item.
void FaultConnector::finish(Flight& flight, const Error& error) noexcept {
  Batch& outer = *flight.outer;
  for (const std::size_t place : flight.corrupted) corrupt(outer.items[place], place);
  for (std::size_t i = 0; i < outer.items.size(); ++i) {
    Item& item = outer.items[i];
    if (flight.fates.empty()) {
      if (!intake_.begin(outer, item)) continue;
      intake_.end(outer, item,
                  Error{ErrorCode::kResourceExhausted, "fault", "the process has no memory left"});
    } else if (flight.fates[i] == Fate::kForward) {
      const bool has_failed = item.outcome == Outcome::kFailed;
      if (error.code() != ErrorCode::kNone && !has_failed) {
        intake_.end(outer, item, error);
      } else {
        intake_.end(outer, item, has_failed ? Status{item.error} : Status{});
      }
    }
  }
  intake_.finish(outer, outer.items.size());
}

void FaultConnector::corrupt(const Item& item, std::size_t place) noexcept {
  if (item.outcome != Outcome::kHit || item.value_bytes == 0) return;
  std::uint64_t offset = (options_.seed + place * 7919) % item.value_bytes;
  for (const Slice& slice : item.value) {
    if (offset < slice.bytes) {
      slice.data[offset] ^= std::byte{1};
      return count(FaultKind::kCorrupt);
    }
    offset -= slice.bytes;
  }
}

void FaultConnector::count(FaultKind kind) noexcept {
  injected_.at(static_cast<std::size_t>(kind)).fetch_add(1, std::memory_order_relaxed);
}

// --- What it says -------------------------------------------------------------------------------

bool FaultConnector::probe(std::span<Item> items) const noexcept {
  if (!inner_->probe(items)) return false;
  intake_.end_probe(items);
  return true;
}

Capabilities FaultConnector::capabilities() const noexcept {
  Capabilities capabilities = inner_->capabilities();
  if (options_.rate(FaultKind::kCorrupt) > 0) capabilities.integrity = Integrity::kNone;
  return capabilities;
}

Report FaultConnector::report() const {
  Report report = inner_->report();
  report.where = report.where.empty() ? report.type : report.type + ":" + report.where;
  report.type = connector_type().name;
  report.integrity = capabilities().integrity;
  std::vector<Counter> counters;
  for (const Metric& metric : metrics_of(report)) {
    if (!metric.name.ends_with("_total")) continue;
    counters.push_back({"inner_" + flat_name(metric), static_cast<std::uint64_t>(metric.value)});
  }
  for (const Counter& counter : report.counters) {
    if (!counter.name.ends_with("_total"))
      counters.push_back({"inner_" + counter.name, counter.value});
  }
  report.counters = std::move(counters);
  if (options_.gaps.is_any() ||
      std::ranges::any_of(options_.rates, [](double rate) { return rate > 0; })) {
    report.reasons.emplace_back("faults are injected on purpose");
  }
  for (std::size_t i = 0; i < kFaultKindCount; ++i) {
    const std::string name{name_of(static_cast<FaultKind>(i))};
    report.counters.push_back(
        {"faults_" + name + "_total", injected_[i].load(std::memory_order_relaxed)});
  }
  intake_.append_report(report);
  return report;
}

Result<ScanPage> FaultConnector::scan(ScanCursor from, std::size_t keys_max) {
  LARDER_ASSIGN(ScanPage page, inner_->scan(from, keys_max));
  const std::uint64_t now = now_ns();
  std::erase_if(page.entries, [&](const ScanPage::Entry& entry) {
    return intake_.failed_keys().contains(std::as_bytes(std::span{entry.key}), now);
  });
  return page;
}

Result<EventPage> FaultConnector::events(EventCursor from, std::size_t events_max) const {
  return inner_->events(from, events_max);
}

}  // namespace larder::fault
