#include "larder/connector/intake.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "larder/base/check.h"
#include "larder/connector/intake_rule.h"
#include "larder/connector/load_model.h"

namespace larder {
namespace {

/// Batch::connector_pending: the number of items that have not ended, and whether the others must
/// not begin.
constexpr std::uint32_t kCancelledBit = std::uint32_t{1} << 31;
constexpr std::uint32_t kItemsMask = kCancelledBit - 1;
static_assert(kItemsMax <= kItemsMask);

constexpr std::array<double, kUrgencyCount> kWeights = {8, 4, 2, 1};
/// Items that a batch of lookups may have taken before another one of its queue has its turn.
constexpr std::uint32_t kLookupsPerTurn = 32;
constexpr std::size_t kBatchesMaxMax = std::size_t{1} << 20;

constexpr const char* kStopped = "the connector was stopped";
constexpr const char* kCancelled = "the caller cancelled the batch";
constexpr const char* kLate = "the deadline passed before it was begun";
constexpr const char* kDown = "the storage does not answer; nothing was changed";

bool is_legal_outcome(Op op, Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::kPending:
    case Outcome::kFailed:
      return false;
    case Outcome::kHit:
      return op == Op::kGet || op == Op::kExists;
    case Outcome::kMiss:
      return op != Op::kSet;
    case Outcome::kDone:
      return op == Op::kSet || op == Op::kDelete || op == Op::kTouch;
  }
  return false;
}

/// Under the mutex: some of its items have not been taken.
std::size_t queue_of(const Batch& batch) noexcept {
  return larder::queue_of(batch.op, batch.urgency);
}

/// Cost of a Get in flight; 0 for other operations.
std::uint64_t load_cost_of(const Batch& batch) noexcept {
  return batch.op == Op::kGet ? load_cost(batch.items.size(), batch.connector_bytes) : 0;
}

constexpr std::array<const char*, kHintCount> kNoHint{
    "", "this connector has no faster place to prefetch values into",
    "this connector cannot pin values", "this connector cannot keep values from being evicted",
    "this connector has no pins to release"};

double cost_of(std::span<const Item> items, Urgency urgency) noexcept {
  if (is_broken(IntakeRule::kWeights)) return 0;
  std::uint64_t bytes = 0;
  for (const Item& item : items) bytes += load_cost(1, bytes_of(item.value));
  return static_cast<double>(bytes) / kWeights[static_cast<std::size_t>(urgency)];
}

/// From the cursor to the next cut; the cuts divide the batch into tickets whose sizes differ by at
/// most one.
std::size_t items_of_ticket(const Batch& batch, const TicketSize& size) noexcept {
  const std::uint64_t items = batch.items.size();
  const std::uint64_t cursor = batch.connector_cursor;
  const std::uint64_t tickets =
      std::clamp<std::uint64_t>(items / size.items_min, 1, size.tickets_max);
  const std::uint64_t index = (cursor * tickets + items - 1) / items;
  return items * (index + 1) / tickets - cursor;
}

}  // namespace

LaneNumber lane_by_class(Op op) noexcept {
  return static_cast<LaneNumber>(class_of(op));
}

SetupStatus IntakeOptions::validate() const {
  const auto wrong = [](const char* text) { return SetupError{ErrorCode::kInvalidArgument, text}; };
  if (limits.batches_max < 1 || limits.batches_max > kBatchesMaxMax) {
    return wrong("batches_max must be 1 to 1048576");
  }
  if (failed_keys_max < 1 || failed_keys_max > std::size_t{1} << 24) {
    return wrong("failed_keys_max must be 1 to 16777216");
  }
  return {};
}

Intake::Intake(const IntakeOptions& options, const Clock& clock)
    : options_(options),
      clock_(clock),
      statistics_(clock),
      what_if_(options.capacity, options.key_hashes),
      failed_keys_(options.failed_keys_max),
      limits_(options.limits),
      deadlines_(kBatchClassCount * options.limits.batches_max) {
  const MutexLock lock{mutex_};
  for (std::size_t op = 1; op <= kOpCount; ++op) {
    const LaneNumber lane = options.lane_of(static_cast<Op>(op));
    LARDER_CHECK(lane < kLanesMax);
    lanes_[lane].queues |= queues_of(static_cast<Op>(op));
  }
}

Intake::~Intake() {
  stop();
  LARDER_CHECK(wait_until_idle(kNever));
}

// --- The caller's side --------------------------------------------------------------------------

Status Intake::enter(Batch& batch) noexcept {
  if (is_stopping_.load(std::memory_order_relaxed) && !is_broken(IntakeRule::kStopRefuses)) {
    return error_of(ErrorCode::kCancelled, kStopped);
  }
  if (!deadlines_.make_room()) {
    return error_of(ErrorCode::kResourceExhausted, "the process has no memory left");
  }
  const BatchClass batch_class = class_of(batch.op);
  const std::uint64_t bytes = BatchLimits::bytes_of_batch(batch);
  // First come, first served: no batch overtakes a waiting one.
  bool waits = waiting_[index_of(batch_class)].head != nullptr;
  if (is_broken(IntakeRule::kWaitInOrder)) waits = false;
  if (!waits) {
    const Status admitted =
        is_broken(IntakeRule::kLimit) ? Status{} : limits_.admit(batch_class, bytes);
    if (!admitted && !batch.waits_for_room) return admitted;
    waits = !admitted;
  } else if (!batch.waits_for_room) {
    return error_of(ErrorCode::kResourceExhausted, "others wait for room already");
  }
  batch.connector_bytes = bytes;
  batch.connector_ahead_bytes = loads_in_flight_;
  loads_in_flight_ += load_cost_of(batch);
  batch.connector_submitted_ns = clock_.now_ns();
  batch.connector_waits = waits;
  batch.connector_cursor = 0;
  batch.connector_pending.store(static_cast<std::uint32_t>(batch.items.size()),
                                std::memory_order_relaxed);
  ++batches_in_flight_;
  return {};
}

/// Gives back its share of the limits.
void Intake::leave(const Batch& batch) noexcept {
  loads_in_flight_ -= load_cost_of(batch);
  if (is_broken(IntakeRule::kReleaseAtEnd) || is_broken(IntakeRule::kLimit)) return;
  if (!batch.connector_waits) limits_.release(class_of(batch.op), batch.connector_bytes);
}

/// Admits as many as there is room for; true if it admitted one.
bool Intake::let_in_waiting(BatchClass batch_class) noexcept {
  const Queue& waiting = waiting_[index_of(batch_class)];
  bool has_some = false;
  if (is_broken(IntakeRule::kLetInWaiting)) return false;
  while (waiting.head != nullptr) {
    Batch& batch = *waiting.head;
    if (!limits_.admit(batch_class, batch.connector_bytes)) break;
    unlink(batch);
    batch.connector_waits = false;
    link(batch, false);
    has_some = true;
  }
  return has_some;
}

Status Intake::submit(Batch& batch) noexcept {
  LARDER_TRY(check_batch(batch));
  const Op op = batch.op;  // The batch may be the caller's again once the lock is released.
  Withdrawn answered = nullptr;
  {
    const MutexLock lock{mutex_};
    LARDER_TRY(enter(batch));
    enqueue(batch, false);
    if (batch.connector_waits) ++waited_total_;
    if (is_lane_down(op)) withdraw(batch, answered);
  }
  if (answered != nullptr) {
    answer_withdrawn(answered);
  } else if (owner_ != nullptr) {
    owner_->on_submitted(op);
  }
  return {};
}

Status Intake::admit(Batch& batch) noexcept {
  LARDER_TRY(check_batch(batch));
  const MutexLock lock{mutex_};
  LARDER_TRY(enter(batch));
  batch.connector_cursor = static_cast<std::uint32_t>(batch.items.size());
  return {};
}

void Intake::cancel(Batch& batch) noexcept {
  Withdrawn list = nullptr;
  {
    const MutexLock lock{mutex_};
    // begin() checks this, and so does an owner that can end work that it has begun.
    batch.connector_pending.fetch_or(kCancelledBit, std::memory_order_release);
    if (is_queued(batch) && !is_broken(IntakeRule::kCancelQueued)) withdraw(batch, list);
  }
  cancels_.fetch_add(1, std::memory_order_release);
  fail_withdrawn(list, error_of(ErrorCode::kCancelled, kCancelled));
  if (owner_ != nullptr) owner_->on_cancelled();
}

bool Intake::is_queued(const Batch& batch) noexcept {
  return batch.connector_cursor < batch.items.size();
}

bool Intake::is_cancelled(const Batch& batch) noexcept {
  return (batch.connector_pending.load(std::memory_order_acquire) & kCancelledBit) != 0;
}

std::uint32_t Intake::items_left(const Batch& batch) noexcept {
  return batch.connector_pending.load(std::memory_order_acquire) & kItemsMask;
}

bool Intake::probe_failed(std::span<Item> items) const noexcept {
  if (failed_keys_.size() == 0) return false;
  const std::uint64_t now_ns = clock_.now_ns();
  const bool are_all_known = std::ranges::all_of(
      items, [&](const Item& item) { return failed_keys_.contains(item.key, now_ns); });
  if (!are_all_known) return false;
  for (Item& item : items) {
    item.outcome = Outcome::kMiss;
    item.miss_reason = failed_keys_.find(item.key, now_ns).value_or(MissReason::kFailedBefore);
    item.value_bytes = 0;
  }
  statistics_.note_probe(items);  // Not an ask for what_if_: a failed load says nothing about room.
  return true;
}

void Intake::end_probe(std::span<Item> items) const noexcept {
  miss_failed(items);
  statistics_.note_probe(items);
  what_if_.note_lookups(items);
}

void Intake::miss_failed(std::span<Item> items) const noexcept {
  if (failed_keys_.size() == 0) return;
  const std::uint64_t now_ns = clock_.now_ns();
  for (Item& item : items) {
    if (item.outcome != Outcome::kHit) continue;
    const auto reason = failed_keys_.find(item.key, now_ns);
    if (!reason) continue;
    item.outcome = Outcome::kMiss;
    item.miss_reason = *reason;
    item.value_bytes = 0;
  }
}

std::uint64_t Intake::load_ns(std::span<const LoadSize> sizes) const noexcept {
  std::uint64_t cost = 0;
  for (const LoadSize& size : sizes) cost += load_cost(size.values, size.bytes);
  {
    const MutexLock lock{mutex_};
    cost += loads_in_flight_;
  }
  return statistics_.load_ns(cost);
}

void Intake::stop() noexcept {
  Withdrawn list = nullptr;
  {
    const MutexLock lock{mutex_};
    is_stopping_.store(true, std::memory_order_release);
    if (!is_broken(IntakeRule::kStopQueued)) withdraw_all(list, kAllLanes);
  }
  fail_withdrawn(list, error_of(ErrorCode::kCancelled, kStopped));
}

bool Intake::wait_until_idle(std::uint64_t deadline_ns) noexcept {
  const MutexLock lock{mutex_};
  while (batches_in_flight_ > 0) {
    if (RealClock::instance().now_ns() >= deadline_ns) return false;
    RealClock::instance().wait_until(idle_, mutex_, deadline_ns);
  }
  return true;
}

// --- Queues -------------------------------------------------------------------------------------

Intake::Queue& Intake::queue_of_batch(const Batch& batch) noexcept {
  return batch.connector_waits ? waiting_[index_of(class_of(batch.op))] : queues_[queue_of(batch)];
}

Intake::Lane& Intake::lane_of_batch(const Batch& batch) noexcept {
  return lanes_[options_.lane_of(batch.op)];
}

void Intake::link(Batch& batch, bool at_front) noexcept {
  Queue& queue = queue_of_batch(batch);
  if (queue.head == nullptr && !batch.connector_waits) {
    // A queue that was empty has no claim to the time in which others were served.
    queue.pass = std::max(queue.pass, lane_of_batch(batch).virtual_time);
    filled_ |= QueueMask{1} << queue_of(batch);
  }
  batch.connector_previous = at_front ? nullptr : queue.tail;
  batch.connector_next = at_front ? queue.head : nullptr;
  (batch.connector_previous == nullptr ? queue.head : batch.connector_previous->connector_next) =
      &batch;
  (batch.connector_next == nullptr ? queue.tail : batch.connector_next->connector_previous) =
      &batch;
}

void Intake::unlink(Batch& batch) noexcept {
  Queue& queue = queue_of_batch(batch);
  Batch* const previous = batch.connector_previous;
  Batch* const next = batch.connector_next;
  (previous == nullptr ? queue.head : previous->connector_next) = next;
  (next == nullptr ? queue.tail : next->connector_previous) = previous;
  if (queue.head == nullptr && !batch.connector_waits) {
    filled_ &= ~(QueueMask{1} << queue_of(batch));
  }
  batch.connector_previous = batch.connector_next = nullptr;
}

void Intake::enqueue(Batch& batch, bool at_front) noexcept {
  link(batch, at_front);
  ++batches_queued_[index_of(class_of(batch.op))];
  if (batch.deadline_ns == kNever) return;
  deadlines_.add(batch);
  publish_next_deadline();
}

void Intake::dequeue(Batch& batch) noexcept {
  unlink(batch);
  --batches_queued_[index_of(class_of(batch.op))];
  if (batch.deadline_ns == kNever) return;
  deadlines_.remove(batch);
  publish_next_deadline();
}

/// The rest of the batch begins at connector_place then.
void Intake::withdraw(Batch& batch, Withdrawn& list) noexcept {
  dequeue(batch);
  batch.connector_place = batch.connector_cursor;
  batch.connector_cursor = static_cast<std::uint32_t>(batch.items.size());
  batch.connector_next = list;
  list = &batch;
}

void Intake::withdraw_all(Withdrawn& list, LaneMask lanes) noexcept {
  const auto withdraw_of = [&](const Queue& queue) LARDER_REQUIRES(mutex_) {
    for (Batch* batch = queue.head; batch != nullptr;) {
      Batch* const next = batch->connector_next;
      if ((lanes >> options_.lane_of(batch->op) & 1U) != 0) withdraw(*batch, list);
      batch = next;
    }
  };
  for (const Queue& queue : queues_) withdraw_of(queue);
  for (const Queue& waiting : waiting_) withdraw_of(waiting);
}

std::uint64_t Intake::oldest_queued_ns(BatchClass batch_class) const noexcept {
  std::uint64_t oldest = kNever;
  const auto look_through = [&](const Queue& queue) {
    for (const Batch* batch = queue.head; batch != nullptr; batch = batch->connector_next) {
      if (class_of(batch->op) == batch_class) {
        oldest = std::min(oldest, batch->connector_submitted_ns);
      }
    }
  };
  // Lookups take turns, so the oldest need not be first in its queue.
  for (const Queue& queue : queues_) look_through(queue);
  if (const Batch* const first = waiting_[index_of(batch_class)].head; first != nullptr) {
    oldest = std::min(oldest, first->connector_submitted_ns);
  }
  const std::uint64_t now_ns = clock_.now_ns();
  return oldest == kNever ? 0 : now_ns - std::min(now_ns, oldest);
}

void Intake::publish_next_deadline() noexcept {
  next_deadline_ns_.store(deadlines_.empty() ? kNever : deadlines_.first().deadline_ns,
                          std::memory_order_release);
}

bool Intake::has_queued(LaneNumber lane) const noexcept {
  const MutexLock lock{mutex_};
  return (filled_ & lanes_[lane].queues) != 0;
}

Ticket Intake::take(LaneNumber lane_number, QueueMask without, const TicketSize& size) noexcept {
  const MutexLock lock{mutex_};
  Lane& lane = lanes_[lane_number];
  const QueueMask candidates = filled_ & lane.queues & ~without;
  if (candidates == 0) return {};
  auto chosen = static_cast<std::size_t>(std::countr_zero(candidates));
  for (QueueMask rest = candidates & (candidates - 1); rest != 0; rest &= rest - 1) {
    const auto other = static_cast<std::size_t>(std::countr_zero(rest));
    if (queues_[other].pass < queues_[chosen].pass) chosen = other;
  }
  Queue& queue = queues_[chosen];
  Batch& batch = *queue.head;
  const std::size_t first = batch.connector_cursor;
  Ticket ticket{&batch, batch.items.subspan(first, items_of_ticket(batch, size))};
  lane.virtual_time = queue.pass;
  queue.pass += cost_of(ticket.items, batch.urgency);
  batch.connector_cursor += static_cast<std::uint32_t>(ticket.items.size());
  if (!is_queued(batch)) {
    dequeue(batch);
  } else if (class_of(batch.op) == BatchClass::kLookup && queue.tail != &batch &&
             !is_broken(IntakeRule::kLookupsTakeTurns) &&
             first / kLookupsPerTurn != batch.connector_cursor / kLookupsPerTurn) {
    unlink(batch);
    link(batch, false);
  }
  ticket.is_more = (filled_ & lane.queues) != 0;
  return ticket;
}

void Intake::put_back(const Ticket& ticket) noexcept {
  Batch& batch = *ticket.batch;
  {
    const MutexLock lock{mutex_};
    const bool is_over = is_stopping_.load(std::memory_order_relaxed) || is_lane_down(batch.op) ||
                         is_cancelled(batch);
    if (!is_over) {
      const bool was_queued = is_queued(batch);
      batch.connector_cursor -= static_cast<std::uint32_t>(ticket.items.size());
      queue_of_batch(batch).pass -= cost_of(ticket.items, batch.urgency);
      if (!was_queued) enqueue(batch, true);
      return;
    }
  }
  answer_down(batch, ticket.items);  // The rest of it was withdrawn already.
}

// --- What ends here -----------------------------------------------------------------------------

void Intake::expire() noexcept {
  if (clock_.now_ns() < next_deadline_ns() || is_broken(IntakeRule::kExpireQueued)) return;
  Withdrawn list = nullptr;
  {
    const MutexLock lock{mutex_};
    const std::uint64_t now_ns = clock_.now_ns();
    while (!deadlines_.empty() && deadlines_.first().deadline_ns <= now_ns) {
      withdraw(deadlines_.first(), list);
    }
  }
  fail_withdrawn(list, error_of(ErrorCode::kDeadlineExceeded, kLate));
}

void Intake::fail_withdrawn(Withdrawn list, const Error& error) noexcept {
  while (list != nullptr) {
    Batch& batch = *list;
    list = batch.connector_next;
    const std::span<Item> items = batch.items.subspan(batch.connector_place);
    for (Item& item : items) fail(batch, item, error);
    finish(batch, items.size());
  }
}

void Intake::set_lanes_down(LaneMask lanes, bool are_down, const Error* why) noexcept {
  Withdrawn list = nullptr;
  {
    const MutexLock lock{mutex_};
    for (LaneNumber lane = 0; lane < kLanesMax; ++lane) {
      if ((lanes >> lane & 1U) == 0) continue;
      lanes_[lane].down_error = why ? *why : error_of(ErrorCode::kUnavailable, kDown);
    }
    const LaneMask before = lanes_down_.load(std::memory_order_relaxed);
    lanes_down_.store(are_down ? before | lanes : before & ~lanes, std::memory_order_release);
    if (are_down && !is_broken(IntakeRule::kDownAnswersQueued)) withdraw_all(list, lanes);
  }
  answer_withdrawn(list);
}

Error Intake::down_error(Op op) const noexcept {
  const MutexLock lock{mutex_};
  return lanes_[options_.lane_of(op)].down_error;
}

void Intake::answer_withdrawn(Withdrawn list) noexcept {
  while (list != nullptr) {
    Batch& batch = *list;
    list = batch.connector_next;
    answered_while_down_.fetch_add(1, std::memory_order_relaxed);
    answer_down(batch, batch.items.subspan(batch.connector_place));
  }
}

void Intake::answer_down(Batch& batch, std::span<Item> items) noexcept {
  for (Item& item : items) {
    if (!begin(batch, item)) continue;
    // It came back in the meantime.
    if (is_read(batch.op)) {
      item.outcome = Outcome::kMiss;
      item.miss_reason = MissReason::kDown;
    } else {
      fail(batch, item, down_error(batch.op));
    }
  }
  finish(batch, items.size());
}

// --- Items --------------------------------------------------------------------------------------

bool Intake::begin(const Batch& batch, Item& item) noexcept {
  item.outcome = Outcome::kPending;
  item.miss_reason = MissReason::kAbsent;
  item.error = Error{};
  item.value_bytes = 0;
  item.place = 0;
  item.existed = false;
  // Taken before what C6 remembers of a key is changed.
  if (const Status status = check_item(batch, item, options_.value_bytes_max, options_.slices_max);
      !status) {
    item.outcome = Outcome::kFailed;
    item.error = status.error();
    return false;
  }
  const auto end_with = [&](ErrorCode code, const char* what) {
    fail(batch, item, error_of(code, what));
    return false;
  };
  if (batch.hint != Hint::kNone && (options_.hints & bit_of(batch.hint)) == 0 &&
      !is_broken(IntakeRule::kHintRefused)) {
    return end_with(ErrorCode::kUnimplemented, kNoHint.at(static_cast<std::size_t>(batch.hint)));
  }
  if (is_stopping()) return end_with(ErrorCode::kCancelled, kStopped);
  if (is_cancelled(batch) && !is_broken(IntakeRule::kCancelAtBegin)) {
    return end_with(ErrorCode::kCancelled, kCancelled);
  }
  const bool reads = is_read(batch.op);
  const bool needs_time = batch.deadline_ns != kNever || (reads && failed_keys_.size() > 0);
  const std::uint64_t now_ns = needs_time ? clock_.now_ns() : 0;
  if (batch.deadline_ns != kNever && now_ns >= batch.deadline_ns &&
      !is_broken(IntakeRule::kDeadlineAtBegin)) {
    return end_with(ErrorCode::kDeadlineExceeded, kLate);
  }
  const bool is_down = is_lane_down(batch.op);
  if (is_down && !reads && !is_broken(IntakeRule::kDownRefusesChanges)) {
    fail(batch, item, down_error(batch.op));
    return false;
  }
  if (!reads) return true;
  const std::optional<MissReason> reason =
      is_down ? MissReason::kDown : failed_keys_.find(item.key, now_ns);
  if (!reason) return true;
  item.outcome = Outcome::kMiss;
  item.miss_reason = *reason;
  return false;
}

SetMode Intake::set_mode_of(const Batch& batch, const Item& item) const noexcept {
  if (batch.set_mode == SetMode::kReplace || failed_keys_.size() == 0 ||
      is_broken(IntakeRule::kReplaceFailed)) {
    return batch.set_mode;
  }
  return failed_keys_.contains(item.key, clock_.now_ns()) ? SetMode::kReplace : batch.set_mode;
}

void Intake::end(const Batch& batch, Item& item, const Status& status, bool says_of_key) noexcept {
  if (!status) {
    fail(batch, item, status.error(), says_of_key);
  } else if (!is_legal_outcome(batch.op, item.outcome) && !is_broken(IntakeRule::kIllegalOutcome)) {
    fail(batch, item, error_of(ErrorCode::kInternal, "the backend left no legal outcome"));
  } else if (batch.op == Op::kSet) {
    // A value that kIfAbsent kept may be the one that could not be read, if a Get failed meanwhile.
    if (!item.existed && !is_broken(IntakeRule::kForgetWhenStored)) failed_keys_.erase(item.key);
  }
}

void Intake::fail(const Batch& batch, Item& item, const Error& error, bool says_of_key) noexcept {
  item.outcome = Outcome::kFailed;
  item.error = error;
  item.existed = false;
  if (error.code() != ErrorCode::kSizeMismatch) item.value_bytes = 0;
  if (batch.op != Op::kGet || !says_of_key || is_broken(IntakeRule::kRememberFailed)) return;
  const bool misses_wrong_sizes =
      batch.misses_wrong_sizes || is_broken(IntakeRule::kWrongSizeIsCallers);
  const bool is_wrong_size = error.code() == ErrorCode::kSizeMismatch && misses_wrong_sizes;
  const ErrorCode code = is_wrong_size ? ErrorCode::kUnavailable : error.code();
  if (is_broken(IntakeRule::kLateForAWhile) && code == ErrorCode::kDeadlineExceeded) return;
  failed_keys_.note_failed_get(item.key, code, clock_.now_ns(), options_.miss_after_failure_ns);
}

void Intake::finish(Batch& batch, std::size_t items) noexcept {
  const auto ended = static_cast<std::uint32_t>(items);
  // Release: publishes what this thread wrote into its items. Acquire, for the last one: sees what
  // the others wrote.
  const std::uint32_t before = batch.connector_pending.fetch_sub(ended, std::memory_order_acq_rel);
  LARDER_CHECK((before & kItemsMask) >= ended);
  if ((before & kItemsMask) > ended) return;
  const Op op = batch.op;
  bool has_let_in = false;
  {
    const MutexLock lock{mutex_};
    leave(batch);
    has_let_in = let_in_waiting(class_of(op));
  }
  if (has_let_in && owner_ != nullptr) owner_->on_submitted(op);
  statistics_.note(batch);
  what_if_.note(batch);
  completions_.push(batch);
  const MutexLock lock{mutex_};
  --batches_in_flight_;
  if (is_stopping_.load(std::memory_order_relaxed)) idle_.notify_all();
}

void Intake::abandon_for_test() noexcept {
  const MutexLock lock{mutex_};
  queues_.fill({});
  waiting_.fill({});
  filled_ = 0;
  batches_in_flight_ = 0;
}

void Intake::append_report(Report& report) const {
  statistics_.append_report(report);
  what_if_.append_report(report);
  report.keys_failed = failed_keys_.size();
  report.keys_failed_dropped = failed_keys_.dropped_total();
  report.batches_answered_while_down = answered_while_down_.load(std::memory_order_relaxed);
  const MutexLock lock{mutex_};
  limits_.append_report(report);
  report.batches_waited_for_room = waited_total_;
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    report.classes[i].batches_queued = batches_queued_[i];
    report.classes[i].oldest_queued_ns = oldest_queued_ns(static_cast<BatchClass>(i));
  }
}

}  // namespace larder
