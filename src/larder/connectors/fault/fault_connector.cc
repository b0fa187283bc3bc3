#include "larder/connectors/fault/fault_connector.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>
#include <string>

#include "larder/base/check.h"
#include "larder/base/clock.h"

namespace larder::fault {
namespace {

constexpr std::uint64_t kMissAfterFailureNs = 30'000'000'000;
constexpr std::size_t kFailedKeysMax = 65'536;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

void make_new(Item& item) noexcept {
  item.value_bytes = 0;
  item.error = {};
  item.outcome = Outcome::kPending;
  item.existed = false;
}

int timeout_ms_until(std::uint64_t time_ns) noexcept {
  if (time_ns == kNever) return -1;
  const std::uint64_t now = now_ns();
  if (time_ns <= now) return 0;
  const std::uint64_t left_ms = (time_ns - now) / 1'000'000 + 1;
  return static_cast<int>(
      std::min<std::uint64_t>(left_ms, std::numeric_limits<std::int32_t>::max()));
}

bool is_legal(const Batch& batch, const Item& item) noexcept {
  return check_item(batch, item, kValueBytesMax, std::numeric_limits<std::size_t>::max())
      .has_value();
}

}  // namespace

SetupResult<std::unique_ptr<Connector>> FaultConnector::create(std::unique_ptr<Connector> inner,
                                                               const FaultOptions& options,
                                                               const BatchLimitOptions& limits) {
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), "fault: " + wake.error().to_string()};
  std::unique_ptr<FaultConnector> made{
      new FaultConnector(std::move(inner), options, limits, std::move(wake).value())};
  auto thread = Thread::start("larder-fault", [raw = made.get()] { raw->run(); });
  if (!thread) return SetupError{thread.error().code(), "fault: " + thread.error().to_string()};
  made->thread_ = std::move(thread).value();
  return made;
}

FaultConnector::FaultConnector(std::unique_ptr<Connector> inner, const FaultOptions& options,
                               const BatchLimitOptions& limits, EventFd wake)
    : inner_(std::move(inner)),
      options_(options),
      failed_keys_(kFailedKeysMax),
      limits_(limits),
      wake_(std::move(wake)) {}

FaultConnector::~FaultConnector() {
  {
    const MutexLock lock{mutex_};
    LARDER_CHECK(flights_.empty());
    is_ending_ = true;
  }
  wake_.signal();
  thread_.join();
  LARDER_CHECK(completions_.empty());
}

Status FaultConnector::submit(Batch& batch) noexcept {
  LARDER_TRY(check_batch(batch));
  const std::uint64_t bytes = BatchLimits::bytes_of_batch(batch);
  LARDER_TRY(limits_.admit(class_of(batch.op), bytes));
  Status status;
  try {
    const MutexLock lock{mutex_};
    status = accept(batch, now_ns());
  } catch (const std::bad_alloc&) {
    status = Error{ErrorCode::kResourceExhausted, "fault", "the process has no memory left"};
  }
  if (!status) limits_.release(class_of(batch.op), bytes);
  return status;
}

Status FaultConnector::accept(Batch& batch, std::uint64_t now_ns) {
  if (is_stopping_) return Error{ErrorCode::kCancelled, "fault", "the connector was stopped"};
  auto owned = std::make_unique<Flight>();
  Flight& flight = *owned;
  flight.outer = &batch;
  std::vector<Fate> fates(batch.items.size(), Fate::kForward);
  plan(flight, fates, now_ns);
  const auto place = flights_.emplace(&batch, std::move(owned)).first;
  // Nothing of the batch is changed before the inner connector has taken its part.
  if (const Status status = forward(flight.parts[0]); !status) {
    flights_.erase(place);
    return status;
  }
  items_seen_.at(static_cast<std::size_t>(batch.op)) += batch.items.size();
  ++batches_seen_.at(static_cast<std::size_t>(batch.op));
  for (std::size_t i = 0; i < fates.size(); ++i) answer(batch.items[i], fates[i]);
  if (flight.is_stalled) {
    count(FaultKind::kStall);
  } else if (flight.held_until_ns != 0) {
    count(FaultKind::kDelay);
  }
  if (const Status status = forward(flight.parts[1]); !status) {
    for (const std::size_t replaced : flight.parts[1].places) {
      make_new(batch.items[replaced]);
      batch.items[replaced].error = status.error();
      batch.items[replaced].outcome = Outcome::kFailed;
    }
  }
  if (!flight.is_out()) finish_or_hold(flight);
  return {};
}

void FaultConnector::plan(Flight& flight, std::vector<Fate>& fates, std::uint64_t now_ns) {
  const Batch& outer = *flight.outer;
  const auto op_index = static_cast<std::size_t>(outer.op);
  // Past its deadline everything fails in the inner connector, which knows how.
  const bool may_inject = outer.deadline_ns > now_ns;
  const std::uint64_t batch_number = batches_seen_.at(op_index) + 1;
  if (may_inject && options_.is_hit(FaultKind::kStall, outer.op, batch_number)) {
    flight.is_stalled = true;
    flight.held_until_ns = now_ns + options_.stall_ns;
    return;
  }
  if (may_inject && options_.is_hit(FaultKind::kDelay, outer.op, batch_number)) {
    flight.held_until_ns = now_ns + options_.delay_ns;
  }
  for (Part& part : flight.parts) {
    part.flight = &flight;
    part.batch.deadline_ns = outer.deadline_ns;
    part.batch.user_data = &part;
    part.batch.op = outer.op;
    part.batch.urgency = outer.urgency;
    part.batch.set_mode = outer.set_mode;
    part.batch.allow_shorter = outer.allow_shorter;
  }
  flight.parts[1].batch.set_mode = SetMode::kReplace;
  for (std::size_t i = 0; i < outer.items.size(); ++i) {
    if (may_inject) fates[i] = fate_of(flight, i, items_seen_.at(op_index) + i + 1, now_ns);
    if (fates[i] != Fate::kForward && fates[i] != Fate::kReplace) continue;
    Part& part = flight.parts.at(fates[i] == Fate::kReplace ? 1 : 0);
    Item item;
    item.key = outer.items[i].key;
    item.value = outer.items[i].value;
    part.items.push_back(item);
    part.places.push_back(i);
  }
}

FaultConnector::Fate FaultConnector::fate_of(Flight& flight, std::size_t place,
                                             std::uint64_t number, std::uint64_t now_ns) {
  const Batch& outer = *flight.outer;
  const Item& item = outer.items[place];
  const Op op = outer.op;
  if (!is_legal(outer, item))
    return Fate::kForward;  // It must fail as that, whatever the dice say.
  if (options_.is_hit(FaultKind::kError, op, number)) return Fate::kFail;
  if (op == Op::kGet && options_.gaps.is_hit(item.key, place, outer.items.size(), options_.seed)) {
    return Fate::kFail;
  }
  const bool is_failed_key = failed_keys_.contains(item.key, now_ns);
  if (is_failed_key && (op == Op::kGet || op == Op::kExists || op == Op::kTouch)) {
    return Fate::kMiss;
  }
  if ((op == Op::kSet || op == Op::kGet) && options_.is_hit(FaultKind::kDrop, op, number)) {
    return op == Op::kSet ? Fate::kDropSet : Fate::kDropGet;
  }
  if (op == Op::kGet && options_.is_hit(FaultKind::kCorrupt, op, number)) {
    flight.corrupted.push_back(place);
  }
  return is_failed_key && op == Op::kSet ? Fate::kReplace : Fate::kForward;
}

Status FaultConnector::forward(Part& part) {
  if (part.items.empty()) return {};
  part.batch.items = part.items;
  part.is_out = true;
  const Status status = inner_->submit(part.batch);
  if (!status) part.is_out = false;
  return status;
}

void FaultConnector::answer(Item& item, Fate fate) {
  if (fate == Fate::kForward || fate == Fate::kReplace) return;
  make_new(item);
  if (fate == Fate::kFail) {
    count(FaultKind::kError);
    item.error = Error::from_errno(EIO, "fault", "an injected error");
    item.outcome = Outcome::kFailed;
    return;
  }
  if (fate != Fate::kMiss) count(FaultKind::kDrop);
  item.outcome = fate == Fate::kDropSet ? Outcome::kDone : Outcome::kMiss;
}

void FaultConnector::cancel(Batch& batch) noexcept {
  {
    const MutexLock lock{mutex_};
    const auto found = flights_.find(&batch);
    if (found == flights_.end()) return;
    found->second->is_cancelled = true;
    for (Part& part : found->second->parts) {
      if (part.is_out) inner_->cancel(part.batch);
    }
  }
  wake_.signal();
}

std::size_t FaultConnector::reap(std::span<Batch*> done) noexcept {
  const std::size_t count = completions_.reap(done);
  for (const Batch* batch : done.first(count)) {
    limits_.release(class_of(batch->op), BatchLimits::bytes_of_batch(*batch));
  }
  return count;
}

void FaultConnector::run() {
  while (true) {
    std::uint64_t next_ns = kNever;
    {
      const MutexLock lock{mutex_};
      if (is_ending_) return;
      reap_inner();
      next_ns = release_due(now_ns());
    }
    std::array<pollfd, 2> waited{{{wake_.get(), POLLIN, 0}, {inner_->event_fd(), POLLIN, 0}}};
    ::poll(waited.data(), waited.size(), timeout_ms_until(next_ns));
    wake_.drain();
  }
}

void FaultConnector::reap_inner() {
  std::array<Batch*, 64> done{};
  while (const std::size_t count = inner_->reap(done)) {
    for (Batch* batch : std::span{done}.first(count)) {
      take_back(*static_cast<Part*>(batch->user_data));
    }
  }
}

void FaultConnector::take_back(Part& part) {
  Flight& flight = *part.flight;
  part.is_out = false;
  for (std::size_t i = 0; i < part.items.size(); ++i) {
    const Item& from = part.items[i];
    Item& to = flight.outer->items[part.places[i]];
    to.value_bytes = from.value_bytes;
    to.error = from.error;
    to.outcome = from.outcome;
    to.existed = from.existed;
    if (part.batch.op == Op::kSet && from.outcome == Outcome::kDone && !from.existed) {
      failed_keys_.erase(from.key);
    }
  }
  if (!flight.is_out()) finish_or_hold(flight);
}

void FaultConnector::finish_or_hold(Flight& flight) {
  if (flight.held_until_ns == 0) return finish(flight);
  flight.is_waiting = true;
  wake_.signal();
}

std::uint64_t FaultConnector::release_due(std::uint64_t now_ns) {
  std::vector<Flight*> due;
  std::uint64_t next_ns = kNever;
  for (const auto& [batch, flight] : flights_) {
    if (!flight->is_waiting) continue;
    const std::uint64_t end_ns = std::min(flight->held_until_ns, batch->deadline_ns);
    if (flight->is_cancelled || is_stopping_ || end_ns <= now_ns) {
      due.push_back(flight.get());
    } else {
      next_ns = std::min(next_ns, end_ns);
    }
  }
  for (Flight* flight : due) {
    if (flight->is_cancelled || is_stopping_) {
      fail_all(*flight, {ErrorCode::kCancelled, "fault", "cancelled while it was held"});
    } else if (flight->outer->deadline_ns <= now_ns) {
      fail_all(*flight, {ErrorCode::kDeadlineExceeded, "fault", "held beyond its deadline"});
    } else if (flight->is_stalled) {
      fail_all(*flight, {ErrorCode::kUnavailable, "fault", "an injected stall"});
    }
    finish(*flight);
  }
  return next_ns;
}

void FaultConnector::fail_all(Flight& flight, const Error& error) {
  for (Item& item : flight.outer->items) {
    if (!flight.is_stalled && item.outcome == Outcome::kFailed) continue;
    make_new(item);
    item.error = error;
    item.outcome = Outcome::kFailed;
  }
}

void FaultConnector::finish(Flight& flight) {
  Batch& outer = *flight.outer;
  for (const std::size_t place : flight.corrupted) corrupt(outer.items[place], place);
  if (outer.op == Op::kGet) {
    for (const Item& item : outer.items) {
      if (item.outcome != Outcome::kFailed || !is_legal(outer, item)) continue;
      failed_keys_.note_failed_get(item.key, item.error.code(), now_ns(), kMissAfterFailureNs);
    }
  }
  flights_.erase(&outer);
  outcomes_.note(outer);
  completions_.push(outer);
  if (flights_.empty()) idle_.notify_all();
}

void FaultConnector::corrupt(const Item& item, std::size_t place) {
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

void FaultConnector::count(FaultKind kind) {
  ++injected_.at(static_cast<std::size_t>(kind));
}

bool FaultConnector::probe(std::span<Item> items) const noexcept {
  if (!inner_->probe(items)) return false;
  const std::uint64_t now = now_ns();
  for (Item& item : items) {
    if (item.outcome != Outcome::kHit || !failed_keys_.contains(item.key, now)) continue;
    item.outcome = Outcome::kMiss;
    item.value_bytes = 0;
  }
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
  for (Counter& counter : report.counters) counter.name = "inner_" + counter.name;
  if (options_.gaps.is_any() ||
      std::ranges::any_of(options_.rates, [](double rate) { return rate > 0; })) {
    report.reasons.emplace_back("faults are injected on purpose");
  }
  {
    const MutexLock lock{mutex_};
    for (std::size_t i = 0; i < kFaultKindCount; ++i) {
      const std::string name{name_of(static_cast<FaultKind>(i))};
      report.counters.push_back({"faults_" + name + "_total", injected_.at(i)});
    }
  }
  report.counters.push_back({"failed_keys", failed_keys_.size()});
  limits_.append_counters(report.counters);
  outcomes_.append_report(report);
  return report;
}

Result<ScanPage> FaultConnector::scan(ScanCursor from, std::size_t keys_max) {
  LARDER_ASSIGN(ScanPage page, inner_->scan(from, keys_max));
  const std::uint64_t now = now_ns();
  std::erase_if(page.entries, [&](const ScanPage::Entry& entry) {
    return failed_keys_.contains(std::as_bytes(std::span{entry.key}), now);
  });
  return page;
}

Result<EventPage> FaultConnector::events(EventCursor from, std::size_t events_max) const {
  return inner_->events(from, events_max);
}

Status FaultConnector::stop(std::uint64_t deadline_ns) noexcept {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
  }
  wake_.signal();
  LARDER_TRY(inner_->stop(deadline_ns));
  const MutexLock lock{mutex_};
  while (!flights_.empty()) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) {
      return Error{ErrorCode::kUnavailable, "fault", "the inner connector keeps batches"};
    }
    idle_.wait_for(mutex_, deadline_ns - now);
  }
  return {};
}

}  // namespace larder::fault
