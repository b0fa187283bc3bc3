#include "larder/connectors/log/machine/machine.h"

#include <utility>

#include "larder/base/logging.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kScanPageWithinNs = 60'000'000'000;

}  // namespace

LogMachine::LogMachine(io::Device device, std::unique_ptr<LogPath> path)
    : device_(std::move(device)),
      path_(std::move(path)),
      reactor_(*this, path_->intake(), {.name = "larder-log", .stall_ns = path_->stall_ns()}) {}

LogMachine::~LogMachine() {
  stop(kNever).ignore("kNever waits to the end");
}

Status LogMachine::stop(std::uint64_t deadline_ns) noexcept {
  {
    const MutexLock lock{mutex_};
    takes_scans_ = false;
  }
  return reactor_.stop(deadline_ns);
}

void LogMachine::turn() noexcept {
  if (has_scans_.exchange(false, std::memory_order_acquire)) {
    const MutexLock lock{mutex_};
    for (ScanTask* const task : scans_) path_->start_scan(*task);
    scans_.clear();
  }
  path_->turn();
}

void LogMachine::close() noexcept {
  if (const Status closed = path_->close(); !closed) {
    log(LogLevel::kWarning, "log",
        "the store was not closed cleanly, the next open takes longer: " +
            closed.error().to_string());
  }
  device_.queue->end_thread();
}

struct LogMachine::Scan {
  ScanTask task;
  Mutex mutex;
  CondVar done;
  bool is_done LARDER_GUARDED_BY(mutex) = false;
};

Result<ScanPage> LogMachine::scan(ScanCursor from, std::size_t keys_max) {
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
      return takes_scans_ ? Error{ErrorCode::kUnavailable, "log", "the storage does not answer"}
                          : Error{ErrorCode::kCancelled, "log", "the store was stopped"};
    }
    scans_.push_back(&mine->task);
    has_scans_.store(true, std::memory_order_release);
  }
  reactor_.notify();
  const std::uint64_t until_ns = RealClock::instance().now_ns() + kScanPageWithinNs;
  const MutexLock lock{mine->mutex};
  while (!mine->is_done) {
    if (RealClock::instance().now_ns() >= until_ns) {
      return Error{ErrorCode::kDeadlineExceeded, "log", "the scan had no answer within 60 s"};
    }
    RealClock::instance().wait_until(mine->done, mine->mutex, until_ns);
  }
  return std::move(mine->task.page);
}

}  // namespace larder::log_store
