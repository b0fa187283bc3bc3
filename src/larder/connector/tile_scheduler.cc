#include "larder/connector/tile_scheduler.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/base/clock.h"

namespace larder {
namespace {

/// connector_pending: the tiles that have not ended, and whether the rest is to be cancelled.
constexpr std::uint32_t kTilesMask = 0xFFFF;
constexpr std::uint32_t kCancelledBit = std::uint32_t{1} << 31;
static_assert(kLaneWorkersMax <= kTilesMask);

constexpr std::array<std::uint32_t, kUrgencyCount> kWeights = {8, 4, 2, 1};
constexpr std::size_t kBatchesMaxMax = std::size_t{1} << 20;
constexpr std::array<const char*, kBatchClassCount> kLaneNames = {"lookup", "load", "store"};

constexpr Error kStopped{ErrorCode::kCancelled, "connector", "the connector was stopped"};
constexpr Error kCancelled{ErrorCode::kCancelled, "connector", "the caller cancelled the batch"};
constexpr Error kLate{ErrorCode::kDeadlineExceeded, "connector",
                      "the deadline passed before it was begun"};

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

/// The items of `tiles` tiles from `first` on, of `count` tiles in all.
std::span<Item> items_of_tiles(const Batch& batch, std::uint32_t first, std::uint32_t tiles,
                               std::uint32_t count) noexcept {
  const std::size_t begin = batch.items.size() * first / count;
  const std::size_t end = batch.items.size() * (first + tiles) / count;
  return batch.items.subspan(begin, end - begin);
}

}  // namespace

SetupStatus TileSchedulerOptions::validate() const {
  const auto wrong = [](const char* text) { return SetupError{ErrorCode::kInvalidArgument, text}; };
  for (const std::uint32_t count : workers) {
    if (count < 1 || count > kLaneWorkersMax) return wrong("a lane must have 1 to 1024 workers");
  }
  for (const std::uint32_t items : tile_items_min) {
    if (items < 1) return wrong("a tile must have at least 1 item");
  }
  if (limits.batches_max < 1 || limits.batches_max > kBatchesMaxMax) {
    return wrong("batches_max must be 1 to 1048576");
  }
  if (failed_keys_max < 1 || failed_keys_max > std::size_t{1} << 24) {
    return wrong("failed_keys_max must be 1 to 16777216");
  }
  return {};
}

TileScheduler::TileScheduler(const TileSchedulerOptions& options)
    : options_(options),
      clock_(RealClock::instance()),
      limits_(options.limits),
      failed_keys_(options.failed_keys_max),
      deadlines_(kBatchClassCount * options.limits.batches_max) {
  const MutexLock lock{mutex_};
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    lanes_[i].workers = options.workers[i];
    lanes_[i].credits = kWeights;
  }
}

TileScheduler::~TileScheduler() {
  LARDER_CHECK(stop(kNever).has_value());
  timer_.join();
}

Status TileScheduler::start() {
  auto timer = Thread::start(options_.name + "-timer", [this] { run_timer(); });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  return {};
}

// ---- The caller's side ----------------------------------------------------------------------

Status TileScheduler::submit(Batch& batch) noexcept {
  LARDER_TRY(check_batch(batch));
  const BatchClass batch_class = class_of(batch.op);
  const std::uint64_t bytes = BatchLimits::bytes_of_batch(batch);
  LARDER_TRY(limits_.admit(batch_class, bytes));
  CondVar* work = nullptr;
  {
    const MutexLock lock{mutex_};
    if (is_stopping_.load(std::memory_order_relaxed)) {
      limits_.release(batch_class, bytes);
      return kStopped;
    }
    enqueue(batch);
    ++batches_in_flight_;
    Lane& lane = lane_of(batch.op);
    work = lane.workers_down == lane.workers ? &lane.work_down : &lane.work;
  }
  work->notify_one();
  return {};
}

void TileScheduler::cancel(Batch& batch) noexcept {
  Withdrawn list;
  {
    const MutexLock lock{mutex_};
    // The tiles that workers have look at this before each item.
    batch.connector_pending.fetch_or(kCancelledBit, std::memory_order_relaxed);
    if (TileState::load(batch).is_queued) withdraw(batch, list);
  }
  fail_withdrawn(list, kCancelled);
}

bool TileScheduler::probe(std::span<Item> items) const noexcept {
  if (failed_keys_.size() == 0) return false;
  const std::uint64_t now_ns = clock_.now_ns();
  const bool are_all_known = std::ranges::all_of(
      items, [&](const Item& item) { return failed_keys_.contains(item.key, now_ns); });
  if (!are_all_known) return false;
  for (Item& item : items) {
    item.outcome = Outcome::kMiss;
    item.value_bytes = 0;
  }
  return true;
}

Status TileScheduler::stop(std::uint64_t deadline_ns) noexcept {
  Withdrawn list;
  {
    const MutexLock lock{mutex_};
    is_stopping_.store(true, std::memory_order_release);
    for (Lane& lane : lanes_) {
      for (const Queue& queue : lane.queues) {
        while (queue.head != nullptr) withdraw(*queue.head, list);
      }
      lane.work.notify_all();
      lane.work_down.notify_all();
    }
    deadline_changed_.notify_all();
  }
  fail_withdrawn(list, kStopped);

  const MutexLock lock{mutex_};
  while (batches_in_flight_ > 0 || workers_alive_ > 0) {
    const std::uint64_t now_ns = clock_.now_ns();
    if (now_ns >= deadline_ns) {
      return Error{ErrorCode::kUnavailable, "connector", "a call into the backend has not ended"};
    }
    ended_.wait_for(mutex_, deadline_ns - now_ns);
  }
  return {};
}

void TileScheduler::append_report(Report& report) const {
  outcomes_.append_report(report);
  limits_.append_counters(report.counters);
  report.counters.push_back({"keys_failed", failed_keys_.size()});
  report.counters.push_back({"keys_failed_dropped_total", failed_keys_.dropped_total()});
  const MutexLock lock{mutex_};
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    report.counters.push_back(
        {std::string{"batches_queued_"} + kLaneNames[i], lanes_[i].batches_queued});
  }
  if (is_stopping_.load(std::memory_order_relaxed) && workers_alive_ > 0) {
    report.reasons.push_back("stopping: " + std::to_string(workers_alive_) +
                             " workers are still in a call into the backend");
  }
}

// ---- Queues -------------------------------------------------------------------------------------

TileScheduler::Lane& TileScheduler::lane_of(Op op) noexcept {
  return lanes_[static_cast<std::size_t>(class_of(op))];
}

std::uint32_t TileScheduler::tiles_of(const Batch& batch) const noexcept {
  const auto lane = static_cast<std::size_t>(class_of(batch.op));
  const std::size_t tiles =
      std::max<std::size_t>(batch.items.size() / options_.tile_items_min[lane], 1);
  return static_cast<std::uint32_t>(std::min<std::size_t>(tiles, options_.workers[lane]));
}

void TileScheduler::enqueue(Batch& batch) noexcept {
  Lane& lane = lane_of(batch.op);
  Queue& queue = lane.queues[static_cast<std::size_t>(batch.urgency)];
  TileState state;
  state.previous = queue.tail;
  state.is_queued = true;
  state.has_deadline = batch.deadline_ns != kNever;
  state.store(batch);
  batch.connector_next = nullptr;
  batch.connector_pending.store(tiles_of(batch), std::memory_order_relaxed);
  (queue.tail == nullptr ? queue.head : queue.tail->connector_next) = &batch;
  queue.tail = &batch;
  ++lane.batches_queued;
  if (state.has_deadline) {
    deadlines_.add(batch);
    if (&deadlines_.first() == &batch) deadline_changed_.notify_one();
  }
}

void TileScheduler::dequeue(Batch& batch) noexcept {
  TileState state = TileState::load(batch);
  Lane& lane = lane_of(batch.op);
  Queue& queue = lane.queues[static_cast<std::size_t>(batch.urgency)];
  Batch* const next = batch.connector_next;
  (state.previous == nullptr ? queue.head : state.previous->connector_next) = next;
  if (next == nullptr) {
    queue.tail = state.previous;
  } else {
    TileState next_state = TileState::load(*next);
    next_state.previous = state.previous;
    next_state.store(*next);
  }
  if (state.has_deadline) deadlines_.remove(batch);
  state.is_queued = false;
  state.store(batch);
  batch.connector_next = nullptr;
  --lane.batches_queued;
}

void TileScheduler::withdraw(Batch& batch, Withdrawn& list) noexcept {
  dequeue(batch);
  batch.connector_next = list.head;
  list.head = &batch;
}

Batch* TileScheduler::next_batch(Lane& lane) noexcept {
  if (lane.batches_queued == 0) return nullptr;
  for (;;) {
    for (std::size_t i = 0; i < kUrgencyCount; ++i) {
      if (lane.queues[i].head == nullptr || lane.credits[i] == 0) continue;
      --lane.credits[i];
      return lane.queues[i].head;
    }
    // Whoever waits has used up its credits: a new round, in which everybody has some.
    lane.credits = kWeights;
  }
}

TileScheduler::Tile TileScheduler::next_tile(Batch& batch) noexcept {
  const std::uint32_t tiles = tiles_of(batch);
  TileState state = TileState::load(batch);
  const Tile tile{&batch, items_of_tiles(batch, state.next_tile, 1, tiles)};
  ++state.next_tile;
  state.store(batch);
  if (state.next_tile == tiles) dequeue(batch);
  return tile;
}

// ---- The timer ----------------------------------------------------------------------------------

TileScheduler::Withdrawn TileScheduler::wait_for_expired() noexcept {
  Withdrawn list;
  const MutexLock lock{mutex_};
  while (list.head == nullptr) {
    list.is_stopping = is_stopping_.load(std::memory_order_relaxed);
    if (list.is_stopping) return list;
    if (deadlines_.empty()) {
      deadline_changed_.wait(mutex_);
      continue;
    }
    const std::uint64_t now_ns = clock_.now_ns();
    if (const std::uint64_t first_ns = deadlines_.first().deadline_ns; first_ns > now_ns) {
      deadline_changed_.wait_for(mutex_, first_ns - now_ns);
      continue;
    }
    while (!deadlines_.empty() && deadlines_.first().deadline_ns <= now_ns) {
      withdraw(deadlines_.first(), list);
    }
  }
  return list;
}

void TileScheduler::run_timer() noexcept {
  for (;;) {
    const Withdrawn list = wait_for_expired();
    if (list.is_stopping) return;
    fail_withdrawn(list, kLate);
  }
}

void TileScheduler::fail_withdrawn(const Withdrawn& list, const Error& error) noexcept {
  for (Batch* batch = list.head; batch != nullptr;) {
    Batch* const next = batch->connector_next;
    const std::uint32_t count = tiles_of(*batch);
    const std::uint32_t first = TileState::load(*batch).next_tile;
    for (Item& item : items_of_tiles(*batch, first, count - first, count)) {
      fail_item(*batch, item, error);
    }
    finish_tiles(*batch, count - first);
    batch = next;
  }
}

// ---- The workers' side --------------------------------------------------------------------------

void TileScheduler::add_worker() noexcept {
  const MutexLock lock{mutex_};
  ++workers_alive_;
}

void TileScheduler::remove_worker() noexcept {
  const MutexLock lock{mutex_};
  --workers_alive_;
  ended_.notify_all();
}

TileScheduler::Taken TileScheduler::take(BatchClass batch_class, bool is_down,
                                         std::uint64_t wake_at_ns) noexcept {
  Taken taken;
  CondVar* work = nullptr;
  bool is_more = false;
  {
    const MutexLock lock{mutex_};
    Lane& lane = lanes_[static_cast<std::size_t>(batch_class)];
    work = is_down ? &lane.work_down : &lane.work;
    taken = take_or_wait(lane, is_down, wake_at_ns);
    is_more = taken.wake == Wake::kTile && lane.batches_queued != 0;
  }
  // Each wakes the next, so that a batch of few keys does not wake a lane of many workers.
  if (is_more) work->notify_one();
  return taken;
}

TileScheduler::Taken TileScheduler::take_or_wait(Lane& lane, bool is_down,
                                                 std::uint64_t wake_at_ns) noexcept {
  CondVar& work = is_down ? lane.work_down : lane.work;
  for (;;) {
    if (is_stopping_.load(std::memory_order_relaxed)) return Taken{};
    const bool may_take = !is_down || lane.workers_down == lane.workers;
    if (Batch* const batch = may_take ? next_batch(lane) : nullptr; batch != nullptr) {
      return Taken{Wake::kTile, next_tile(*batch)};
    }
    if (wake_at_ns == kNever) {
      work.wait(mutex_);
      continue;
    }
    const std::uint64_t now_ns = clock_.now_ns();
    if (now_ns >= wake_at_ns) return Taken{Wake::kTime, {}};
    work.wait_for(mutex_, wake_at_ns - now_ns);
  }
}

void TileScheduler::set_down(BatchClass batch_class, bool is_down) noexcept {
  const MutexLock lock{mutex_};
  Lane& lane = lanes_[static_cast<std::size_t>(batch_class)];
  if (is_down) {
    ++lane.workers_down;
  } else {
    --lane.workers_down;
  }
  if (lane.workers_down == lane.workers) lane.work_down.notify_all();
}

bool TileScheduler::begin_item(const Batch& batch, Item& item) noexcept {
  item.outcome = Outcome::kPending;
  item.error = Error{};
  item.value_bytes = 0;
  item.existed = false;
  // Before everything that C6 remembers of a key.
  if (const Status status = check_item(batch, item, options_.value_bytes_max, options_.slices_max);
      !status) {
    item.outcome = Outcome::kFailed;
    item.error = status.error();
    return false;
  }
  const auto fail = [&](const Error& error) {
    fail_item(batch, item, error);
    return false;
  };
  if (is_stopping_.load(std::memory_order_acquire)) return fail(kStopped);
  // Relaxed: a hint that leads to no other data.
  if ((batch.connector_pending.load(std::memory_order_relaxed) & kCancelledBit) != 0) {
    return fail(kCancelled);
  }
  const bool is_lookup = batch.op == Op::kGet || batch.op == Op::kExists;
  const bool needs_time = batch.deadline_ns != kNever || (is_lookup && failed_keys_.size() > 0);
  const std::uint64_t now_ns = needs_time ? clock_.now_ns() : 0;
  if (batch.deadline_ns != kNever && now_ns >= batch.deadline_ns) return fail(kLate);
  if (is_lookup && failed_keys_.contains(item.key, now_ns)) {
    item.outcome = Outcome::kMiss;
    return false;
  }
  return true;
}

SetMode TileScheduler::set_mode_of(const Batch& batch, const Item& item) const noexcept {
  if (batch.set_mode == SetMode::kReplace || failed_keys_.size() == 0) return batch.set_mode;
  return failed_keys_.contains(item.key, clock_.now_ns()) ? SetMode::kReplace : batch.set_mode;
}

void TileScheduler::end_item(const Batch& batch, Item& item, const Status& status) noexcept {
  if (!status) {
    fail_item(batch, item, status.error());
  } else if (!is_legal_outcome(batch.op, item.outcome)) {
    fail_item(batch, item,
              Error{ErrorCode::kInternal, "connector", "the backend left no legal outcome"});
  } else if (batch.op == Op::kSet) {
    failed_keys_.erase(item.key);
  }
}

void TileScheduler::fail_item(const Batch& batch, Item& item, const Error& error) noexcept {
  item.outcome = Outcome::kFailed;
  item.error = error;
  item.existed = false;
  if (error.code() != ErrorCode::kSizeMismatch) item.value_bytes = 0;
  if (batch.op == Op::kGet) {
    failed_keys_.note_failed_get(item.key, error.code(), clock_.now_ns(),
                                 options_.miss_after_failure_ns);
  }
}

void TileScheduler::finish_tiles(Batch& batch, std::uint32_t tiles) noexcept {
  // Release: what this thread wrote into its items. Acquire, for the last one: what the others did.
  const std::uint32_t before = batch.connector_pending.fetch_sub(tiles, std::memory_order_acq_rel);
  LARDER_CHECK((before & kTilesMask) >= tiles);
  if ((before & kTilesMask) == tiles) publish(batch);
}

void TileScheduler::publish(Batch& batch) noexcept {
  limits_.release(class_of(batch.op), BatchLimits::bytes_of_batch(batch));
  outcomes_.note(batch);
  completions_.push(batch);
  const MutexLock lock{mutex_};
  --batches_in_flight_;
  if (is_stopping_.load(std::memory_order_relaxed)) ended_.notify_all();
}

}  // namespace larder
