#include "larder/connectors/log/reactor.h"

#include <algorithm>
#include <thread>

#include "larder/base/check.h"
#include "larder/base/logging.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kScanPageWithinNs = 60'000'000'000;
/// How often the end is looked for while threads may still be inside submit().
constexpr std::uint64_t kStopPollNs = 5'000'000;
/// A thread may also wait for a processor: so long it has not been kept, however short `stall` is.
constexpr std::uint64_t kKeptAfterAtLeastNs = 1'000'000'000;
/// How often the watcher looks until then, and how rarely at most.
constexpr std::uint64_t kLooksUntilKept = 4;
constexpr std::uint64_t kLookEveryAtMostNs = 1'000'000'000;

}  // namespace

Reactor::Reactor(io::Device device, std::unique_ptr<LogPath> path)
    : device_(std::move(device)), path_(std::move(path)) {}

Reactor::~Reactor() {
  stop(kNever).ignore("kNever waits to the end");
}

Status Reactor::start() {
  {
    const MutexLock lock{mutex_};
    takes_scans_ = true;
  }
  LARDER_ASSIGN(thread_, Thread::start("larder-log", [this] { run(); }));
  LARDER_ASSIGN(watcher_, Thread::start("larder-watch", [this] { watch(); }));
  return {};
}

void Reactor::wake() noexcept {
  // Pairs with the fence in run(): either the reactor sees what was added before it sleeps, or this
  // sees that it sleeps.
  if (is_asleep_.exchange(false, std::memory_order_seq_cst)) device_.queue->wake();
}

Status Reactor::submit(Batch& batch) noexcept {
  // Counted first: the reactor ends only when nobody is counted, and who comes later sees the stop.
  submitters_.fetch_add(1, std::memory_order_seq_cst);
  if (is_stop_wanted_.load(std::memory_order_seq_cst)) {
    submitters_.fetch_sub(1, std::memory_order_seq_cst);
    return Error{ErrorCode::kCancelled, "log", "the store was stopped"};
  }
  if (is_kept_.load(std::memory_order_relaxed)) [[unlikely]] {
    answered_as_down_.fetch_add(1, std::memory_order_relaxed);
    path_->answer_as_down(batch);
    submitters_.fetch_sub(1, std::memory_order_seq_cst);
    return {};
  }
  batch.connector_next = inbox_.load(std::memory_order_relaxed);
  while (!inbox_.compare_exchange_weak(batch.connector_next, &batch, std::memory_order_seq_cst,
                                       std::memory_order_relaxed)) {
  }
  wake();
  submitters_.fetch_sub(1, std::memory_order_seq_cst);
  return {};
}

void Reactor::note_cancel() noexcept {
  path_->note_cancel();
  is_asleep_.store(false, std::memory_order_relaxed);
  device_.queue->wake();
}

Batch* Reactor::take_inbox_in_order() noexcept {
  Batch* batch = inbox_.exchange(nullptr, std::memory_order_acquire);
  Batch* in_order = nullptr;
  while (batch != nullptr) {
    Batch* const next = batch->connector_next;
    batch->connector_next = in_order;
    in_order = batch;
    batch = next;
  }
  return in_order;
}

bool Reactor::has_inbox() const noexcept {
  return inbox_.load(std::memory_order_seq_cst) != nullptr ||
         has_scans_.load(std::memory_order_seq_cst) ||
         is_stop_wanted_.load(std::memory_order_seq_cst);
}

/// All that a turn is but for what may block in the kernel: that is before and after it. False
/// after the last one.
bool Reactor::turn(bool& is_stopping, std::uint64_t& until_ns) noexcept {
  // The watcher has it only for a moment, and only after this thread was kept by the kernel.
  while (is_in_use_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  if (is_kept_.load(std::memory_order_relaxed)) [[unlikely]] {
    is_kept_.store(false, std::memory_order_relaxed);
    path_->note_unblocked();
  }
  for (Batch* batch = take_inbox_in_order(); batch != nullptr;) {
    Batch* const next = batch->connector_next;
    path_->accept(*batch);
    batch = next;
  }
  if (has_scans_.exchange(false, std::memory_order_acquire)) {
    const MutexLock lock{mutex_};
    for (ScanTask* const task : scans_) path_->start_scan(*task);
    scans_.clear();
  }
  if (is_stop_wanted_.load(std::memory_order_acquire)) {
    if (!is_stopping) {
      const MutexLock lock{mutex_};
      takes_scans_ = false;
    }
    is_stopping = true;
    path_->begin_stop();
  }
  path_->turn();
  until_ns = path_->next_timer_ns();
  const bool is_last = is_stopping && path_->is_idle() &&
                       submitters_.load(std::memory_order_seq_cst) == 0 &&
                       inbox_.load(std::memory_order_seq_cst) == nullptr;
  if (!is_last) is_in_use_.store(false, std::memory_order_release);
  return !is_last;
}

void Reactor::run() noexcept {
  bool is_stopping = false;
  for (;;) {
    turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    path_->reap();
    std::uint64_t until_ns = kNever;
    if (!turn(is_stopping, until_ns)) break;
    is_asleep_.store(true, std::memory_order_seq_cst);
    if (!is_stopping && has_inbox()) {
      is_asleep_.store(false, std::memory_order_relaxed);
      continue;
    }
    device_.queue->wait(
        is_stopping ? std::min(until_ns, RealClock::instance().now_ns() + kStopPollNs) : until_ns);
    is_asleep_.store(false, std::memory_order_relaxed);
  }
  {
    const MutexLock lock{mutex_};
    is_watch_over_ = true;
    over_.notify_all();
  }
  if (const Status closed = path_->close(); !closed) {
    log(LogLevel::kWarning, "log",
        "the store was not closed cleanly, the next open takes longer: " +
            closed.error().to_string());
  }
  device_.queue->end_thread();
  const MutexLock lock{mutex_};
  has_ended_ = true;
  changed_.notify_all();
}

// --- The watcher --------------------------------------------------------------------------------

void Reactor::watch() noexcept {
  const std::uint64_t kept_after_ns = std::max(path_->stall_ns(), kKeptAfterAtLeastNs);
  const std::uint64_t look_every_ns = std::min(kept_after_ns / kLooksUntilKept, kLookEveryAtMostNs);
  const std::uint64_t looks_max = kept_after_ns / look_every_ns;
  std::uint64_t turns_seen = 0;
  std::uint64_t looks = 0;
  for (;;) {
    {
      const MutexLock lock{mutex_};
      if (!is_watch_over_) over_.wait_for(mutex_, look_every_ns);
      if (is_watch_over_) return;
    }
    // Looks are counted, not time: who was stopped with the whole process has not been kept.
    const std::uint64_t turns = turns_.load(std::memory_order_relaxed);
    looks = turns == turns_seen ? looks + 1 : 0;
    turns_seen = turns;
    if (looks == 0) continue;
    device_.queue->wake();  // It may only sleep.
    if (looks < looks_max) continue;
    if (!path_->is_blocked()) path_->note_blocked();
    is_kept_.store(true, std::memory_order_relaxed);
    answer_as_down();
  }
}

/// What waits in the inbox and, where the thread has not been kept in the middle of a turn, in the
/// path's queues.
void Reactor::answer_as_down() noexcept {
  for (Batch* batch = take_inbox_in_order(); batch != nullptr;) {
    Batch* const next = batch->connector_next;
    answered_as_down_.fetch_add(1, std::memory_order_relaxed);
    path_->answer_as_down(*batch);
    batch = next;
  }
  if (is_in_use_.exchange(true, std::memory_order_acquire)) return;
  // Only a turn ends it, and there is none now.
  if (path_->is_blocked()) path_->answer_queued_as_down();
  is_in_use_.store(false, std::memory_order_release);
}

// --- Scans --------------------------------------------------------------------------------------

struct Reactor::Scan {
  ScanTask task;
  Mutex mutex;
  CondVar done;
  bool is_done LARDER_GUARDED_BY(mutex) = false;
};

Result<ScanPage> Reactor::scan(ScanCursor from, std::size_t keys_max) {
  // Shared with the reactor, because a page that comes too late must still have a place to go to.
  auto* const shared = new std::shared_ptr<Scan>{std::make_shared<Scan>()};
  const std::shared_ptr<Scan> mine = *shared;
  mine->task.from = from;
  mine->task.keys_max = keys_max;
  mine->task.user_data = shared;
  mine->task.on_done = [](ScanTask& task) noexcept {
    const std::unique_ptr<std::shared_ptr<Scan>> theirs{
        static_cast<std::shared_ptr<Scan>*>(task.user_data)};
    const MutexLock lock{(*theirs)->mutex};
    (*theirs)->is_done = true;
    (*theirs)->done.notify_all();
  };
  {
    const MutexLock lock{mutex_};
    if (!takes_scans_ || path_->is_blocked()) {
      delete shared;
      return takes_scans_ ? Error{ErrorCode::kUnavailable, "log", "the path is down"}
                          : Error{ErrorCode::kCancelled, "log", "the store was stopped"};
    }
    scans_.push_back(&mine->task);
    has_scans_.store(true, std::memory_order_seq_cst);
  }
  wake();
  const std::uint64_t until_ns = RealClock::instance().now_ns() + kScanPageWithinNs;
  const MutexLock lock{mine->mutex};
  while (!mine->is_done) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) {
      return Error{ErrorCode::kDeadlineExceeded, "log", "the scan had no answer within 60 s"};
    }
    mine->done.wait_for(mine->mutex, until_ns - now_ns);
  }
  return std::move(mine->task.page);
}

// --- The end ------------------------------------------------------------------------------------

Status Reactor::stop(std::uint64_t deadline_ns) noexcept {
  is_stop_wanted_.store(true, std::memory_order_seq_cst);
  if (!thread_.joinable()) return {};
  wake();
  {
    const MutexLock lock{mutex_};
    while (!has_ended_) {
      const std::uint64_t now_ns = RealClock::instance().now_ns();
      if (now_ns >= deadline_ns) {
        return Error{ErrorCode::kUnavailable, "log", "transfers are still with the kernel"};
      }
      changed_.wait_for(mutex_, deadline_ns - now_ns);
    }
  }
  thread_.join();
  watcher_.join();
  return {};
}

}  // namespace larder::log_store
