#include "larder/connectors/log/reactor.h"

#include <algorithm>

#include "larder/base/check.h"
#include "larder/base/logging.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kScanPageWithinNs = 60'000'000'000;
/// How often the end is looked for while threads may still be inside submit().
constexpr std::uint64_t kStopPollNs = 5'000'000;

}  // namespace

Reactor::Reactor(std::unique_ptr<io::Device> device, std::unique_ptr<LogPath> path)
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
  return {};
}

void Reactor::wake() noexcept {
  // Pairs with the fence in run(): either the reactor sees what was added before it sleeps, or this
  // sees that it sleeps.
  if (is_asleep_.exchange(false, std::memory_order_seq_cst)) device_->wake();
}

Status Reactor::submit(Batch& batch) noexcept {
  // Counted first: the reactor ends only when nobody is counted, and who comes later sees the stop.
  submitters_.fetch_add(1, std::memory_order_seq_cst);
  if (is_stop_wanted_.load(std::memory_order_seq_cst)) {
    submitters_.fetch_sub(1, std::memory_order_seq_cst);
    return Error{ErrorCode::kCancelled, "log", "the store was stopped"};
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
  device_->wake();
}

bool Reactor::take_inbox() noexcept {
  Batch* batch = inbox_.exchange(nullptr, std::memory_order_acquire);
  Batch* in_order = nullptr;
  while (batch != nullptr) {
    Batch* const next = batch->connector_next;
    batch->connector_next = in_order;
    in_order = batch;
    batch = next;
  }
  const bool had_some = in_order != nullptr;
  while (in_order != nullptr) {
    Batch* const next = in_order->connector_next;
    path_->accept(*in_order);
    in_order = next;
  }
  return had_some;
}

bool Reactor::has_inbox() const noexcept {
  return inbox_.load(std::memory_order_seq_cst) != nullptr ||
         has_scans_.load(std::memory_order_seq_cst) ||
         is_stop_wanted_.load(std::memory_order_seq_cst);
}

void Reactor::run() noexcept {
  bool is_stopping = false;
  for (;;) {
    take_inbox();
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
    if (is_stopping && path_->is_idle() && submitters_.load(std::memory_order_seq_cst) == 0 &&
        inbox_.load(std::memory_order_seq_cst) == nullptr) {
      break;
    }
    is_asleep_.store(true, std::memory_order_seq_cst);
    if (!is_stopping && has_inbox()) {
      is_asleep_.store(false, std::memory_order_relaxed);
      continue;
    }
    const std::uint64_t until_ns = path_->next_timer_ns();
    device_->wait(is_stopping ? std::min(until_ns, RealClock::instance().now_ns() + kStopPollNs)
                              : until_ns);
    is_asleep_.store(false, std::memory_order_relaxed);
  }
  if (const Status closed = path_->close(); !closed) {
    log(LogLevel::kWarning, "log",
        "the store was not closed cleanly, the next open takes longer: " +
            closed.error().to_string());
  }
  const MutexLock lock{mutex_};
  has_ended_ = true;
  changed_.notify_all();
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
    if (!takes_scans_) {
      delete shared;
      return Error{ErrorCode::kCancelled, "log", "the store was stopped"};
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
  return {};
}

}  // namespace larder::log_store
