#include "larder/connector/tile_scheduler.h"

#include "larder/base/check.h"
#include "larder/base/clock.h"

namespace larder {

SetupStatus TileSchedulerOptions::validate() const {
  const auto wrong = [](const char* text) { return SetupError{ErrorCode::kInvalidArgument, text}; };
  for (const std::uint32_t count : workers) {
    if (count < 1 || count > kLaneWorkersMax) return wrong("a lane must have 1 to 1024 workers");
  }
  for (const std::uint32_t items : tile_items_min) {
    if (items < 1) return wrong("a tile must have at least 1 item");
  }
  return intake.validate();
}

TileScheduler::TileScheduler(const TileSchedulerOptions& options, const Clock& clock)
    : name_(options.name), clock_(clock), intake_(options.intake, clock) {
  intake_.set_owner(this);
  const MutexLock lock{mutex_};
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    lanes_[i].workers = options.workers[i];
    lanes_[i].tile = {.tickets_max = options.workers[i], .items_min = options.tile_items_min[i]};
  }
}

TileScheduler::~TileScheduler() {
  LARDER_CHECK(stop(kNever).has_value());
  timer_.join();
}

Status TileScheduler::start() {
  auto timer = Thread::start(name_ + "-timer", [this] { run_timer(); });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  return {};
}

Status TileScheduler::stop(std::uint64_t deadline_ns) noexcept {
  constexpr Error kNotEnded{ErrorCode::kUnavailable, "connector",
                            "a call into the backend has not ended"};
  intake_.stop();
  {
    const MutexLock lock{mutex_};
    for (Lane& lane : lanes_) {
      lane.work.notify_all();
      lane.time.notify_all();
    }
    deadline_changed_.notify_all();
  }
  if (!intake_.wait_until_idle(deadline_ns)) return kNotEnded;
  const MutexLock lock{mutex_};
  while (workers_alive_ > 0) {
    if (RealClock::instance().now_ns() >= deadline_ns) return kNotEnded;
    RealClock::instance().wait_until(ended_, mutex_, deadline_ns);
  }
  return {};
}

void TileScheduler::append_report(Report& report) const {
  intake_.append_report(report);
  const MutexLock lock{mutex_};
  if (intake_.is_stopping() && workers_alive_ > 0) {
    report.reasons.push_back("stopping: " + std::to_string(workers_alive_) +
                             " workers are still in a call into the backend");
  }
}

void TileScheduler::on_submitted(Op op) noexcept {
  CondVar* work = nullptr;
  bool is_earlier = false;
  {
    // A worker that found no tile is waiting now, and the timer knows of an earlier deadline.
    const MutexLock lock{mutex_};
    work = &lanes_[lane_by_class(op)].work;
    is_earlier = intake_.next_deadline_ns() < timer_until_ns_;
  }
  work->notify_one();
  if (is_earlier) deadline_changed_.notify_one();
}

// --- The timer ----------------------------------------------------------------------------------

void TileScheduler::run_timer() noexcept {
  for (;;) {
    {
      const MutexLock lock{mutex_};
      for (;;) {
        if (intake_.is_stopping()) return;
        timer_until_ns_ = intake_.next_deadline_ns();
        if (timer_until_ns_ <= clock_.now_ns()) break;
        clock_.wait_until(deadline_changed_, mutex_, timer_until_ns_);
      }
    }
    intake_.expire();
  }
}

// --- The workers' side --------------------------------------------------------------------------

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
  {
    const MutexLock lock{mutex_};
    const auto number = static_cast<LaneNumber>(batch_class);
    Lane& lane = lanes_[number];
    work = &lane.work;
    taken = take_or_wait(lane, number, is_down, wake_at_ns);
  }
  // Each wakes the next, so that a batch of few keys does not wake a lane of many workers.
  if (taken.tile.is_more) work->notify_one();
  return taken;
}

TileScheduler::Taken TileScheduler::take_or_wait(Lane& lane, LaneNumber number, bool is_down,
                                                 std::uint64_t wake_at_ns) noexcept {
  CondVar& changed = is_down ? lane.time : lane.work;
  for (;;) {
    if (intake_.is_stopping()) return Taken{};
    if (!is_down) {
      if (const Ticket ticket = intake_.take(number, 0, lane.tile)) {
        return Taken{Wake::kTile, ticket};
      }
    }
    if (wake_at_ns != kNever && clock_.now_ns() >= wake_at_ns) return Taken{Wake::kTime, {}};
    clock_.wait_until(changed, mutex_, wake_at_ns);
  }
}

void TileScheduler::set_down(BatchClass batch_class, bool is_down) noexcept {
  const MutexLock order{down_mutex_};
  bool is_lane_down = false;
  bool has_changed = false;
  {
    const MutexLock lock{mutex_};
    Lane& lane = lanes_[index_of(batch_class)];
    const bool was_lane_down = lane.workers_down == lane.workers;
    is_down ? ++lane.workers_down : --lane.workers_down;
    is_lane_down = lane.workers_down == lane.workers;
    has_changed = is_lane_down != was_lane_down;
  }
  if (has_changed) intake_.set_lane_down(static_cast<LaneNumber>(batch_class), is_lane_down);
}

}  // namespace larder
