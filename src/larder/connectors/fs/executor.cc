#include "larder/connectors/fs/executor.h"

#include <algorithm>
#include <functional>
#include <new>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"

namespace larder::fs {
namespace {

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

TileSchedulerOptions scheduler_options(const FileStore& store, bool is_staged, bool has_ring) {
  const FsOptions& options = store.options();
  TileSchedulerOptions made;
  made.name = "larder-fs";
  made.workers = options.workers;
  // On a local disk lookup and open take microseconds, and io_uring reads the file.
  constexpr std::uint32_t kLookups = 8;
  constexpr std::uint32_t kLoads = 4;
  if (!store.facts().is_network && !is_staged) {
    made.tile_items_min = {kLookups, has_ring ? kLoads : 1, 1};
  }
  made.intake.name = "fs";
  made.intake.limits = options.limits;
  made.intake.value_bytes_max = options.value_bytes_max;
  made.intake.slices_max = io::kBuffersMax;
  made.intake.miss_after_failure_ns = options.miss_after_failure_ns;
  made.intake.capacity = {.capacity_bytes = options.capacity_bytes,
                          .grain_bytes = store.facts().block_bytes};
  return made;
}

std::shared_ptr<const StagedTarget> staged_target(const std::shared_ptr<FileStore>& store,
                                                  std::uint32_t workers) {
  constexpr std::size_t kPageBytes = 4096;
  const io::Alignment& alignment = store->facts().alignment;
  auto target = std::make_shared<StagedTarget>();
  target->run = [store](Op op, Item& item, const CallOptions& options, StagingBuffer& staging,
                        ChangeGate& gate) { return store->run(op, item, options, staging, gate); };
  target->name_of = [store](std::span<const std::byte> key) {
    return file_name_of(as_text(key), store->base().get()->names()).text;
  };
  target->counters = &store->counters();
  target->stall_ns = store->options().stall_ns;
  target->buffer_alignment =
      std::max<std::size_t>({alignment.memory, alignment.offset, kPageBytes});
  target->hung_max = workers;
  return target;
}

}  // namespace

SetupResult<std::unique_ptr<Executor>> Executor::create(std::shared_ptr<FileStore> store,
                                                        bool is_staged, bool has_ring) {
  LARDER_TRY(scheduler_options(*store, is_staged, has_ring).validate());
  std::unique_ptr<Executor> executor{new Executor{std::move(store), is_staged, has_ring}};
  if (const Status status = executor->start(); !status) {
    return SetupError{status.error().code(), "fs: " + status.error().to_string()};
  }
  return executor;
}

Executor::Executor(std::shared_ptr<FileStore> store, bool is_staged, bool has_ring)
    : store_(std::move(store)),
      is_staged_(is_staged),
      has_ring_(has_ring),
      scheduler_(scheduler_options(*store_, is_staged, has_ring)),
      budget_(store_->options().load_bytes_max) {
  for (auto& calls : hung_) calls = std::make_shared<HungCalls>();
  if (!is_staged_) return;
  const auto directory = store_->base().get();
  hung_.at(static_cast<std::size_t>(BatchClass::kStore)) =
      HungCalls::of_directory(directory->device(), directory->inode());
}

Executor::~Executor() {
  stop(kNever).ignore("without a deadline it succeeds");
  const MutexLock lock{watch_mutex_};
  is_ending_ = true;
  watch_changed_.notify_all();
}

Status Executor::start() {
  LARDER_TRY(scheduler_.start());
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const auto lane = static_cast<BatchClass>(i);
    const std::uint32_t count = store_->options().workers.at(i);
    const auto target = is_staged_ ? staged_target(store_, count) : nullptr;
    for (std::uint32_t n = 0; n < count; ++n) {
      Worker& worker = *workers_.emplace_back(std::make_unique<Worker>());
      worker.lane = lane;
      if (is_staged_) {
        worker.staged = std::make_unique<StagedCaller>(target, hung_.at(i));
      }
      const bool is_loader = lane == BatchClass::kLoad && !is_staged_;
      LARDER_TRY(start_thread(
          std::string{"fs-"} + kBatchClassNames.at(i),
          [this, &worker, is_loader] { is_loader ? run_loads(worker) : run_worker(worker); }));
    }
  }
  LARDER_ASSIGN(Thread watching, Thread::start("fs-watch", [this] { watch(); }));
  threads_.push_back(std::move(watching));
  return {};
}

Status Executor::start_thread(const std::string& name, std::function<void()> body) {
  scheduler_.add_worker();
  auto thread = Thread::start(name, [this, body = std::move(body)] {
    body();
    scheduler_.remove_worker();
  });
  if (!thread) {
    scheduler_.remove_worker();
    return thread.error();
  }
  threads_.push_back(std::move(*thread));
  return {};
}

void Executor::run_worker(Worker& worker) noexcept {
  for (;;) {
    const TileScheduler::Taken taken = scheduler_.take(worker.lane, false, kNever);
    if (taken.wake == TileScheduler::Wake::kStop) return;
    note_progress(worker, now_ns());
    run_tile(worker, taken.tile);
    note_progress(worker, 0);
    scheduler_.intake().finish(taken.tile);
  }
}

void Executor::run_loads(Worker& worker) noexcept {
  Loader loader{*store_, scheduler_, budget_, has_ring_};
  const auto note = [this, &worker] { note_progress(worker, now_ns()); };
  for (bool is_stopping = false; !is_stopping || !loader.is_idle();) {
    if (loader.is_idle()) note_progress(worker, 0);
    if (!is_stopping && !loader.is_full()) {
      // While a read is in flight, only takes tiles that are already queued.
      const std::uint64_t until_ns = loader.is_idle() ? kNever : 0;
      const TileScheduler::Taken taken = scheduler_.take(worker.lane, false, until_ns);
      is_stopping = taken.wake == TileScheduler::Wake::kStop;
      if (taken.wake == TileScheduler::Wake::kTile) {
        note();
        loader.start(taken.tile, note);
        continue;
      }
    }
    if (loader.is_idle()) continue;
    loader.wait();
    note();
  }
  note_progress(worker, 0);
}

void Executor::run_tile(Worker& worker, const Ticket& tile) noexcept {
  const Batch& batch = *tile.batch;
  for (Item& item : tile.items) {
    if (!scheduler_.intake().begin(batch, item)) continue;
    scheduler_.intake().end(batch, item, call(worker, batch, item));
    note_progress(worker, now_ns());
  }
}

Status Executor::call(Worker& worker, const Batch& batch, Item& item) noexcept {
  CallOptions options{batch.deadline_ns, batch.set_mode, batch.allow_shorter};
  if (batch.op == Op::kSet) options.set_mode = scheduler_.intake().set_mode_of(batch, item);
  if (!is_staged_) {
    ChangeGate gate;
    return store_->run(batch.op, item, options, worker.staging, gate);
  }
  try {
    return worker.staged->call(batch.op, item, options);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResourceExhausted, "fs", "the process has no memory left"};
  } catch (...) {
    return Error{ErrorCode::kInternal, "fs", "an unknown exception"};
  }
}

void Executor::note_progress(Worker& worker, std::uint64_t now_ns) noexcept {
  worker.busy_since_ns.store(now_ns);
  if (!worker.is_aside.load()) return;
  const MutexLock lock{watch_mutex_};
  if (worker.is_aside.load()) set_aside(worker, false);
}

void Executor::set_aside(Worker& worker, bool is_aside) noexcept {
  const auto lane = static_cast<std::size_t>(worker.lane);
  const std::uint32_t workers = store_->options().workers.at(lane);
  const bool was_down = aside_.at(lane) == workers;
  worker.is_aside.store(is_aside);
  is_aside ? ++aside_.at(lane) : --aside_.at(lane);
  scheduler_.set_down(worker.lane, is_aside);
  const bool is_down = aside_.at(lane) == workers;
  if (is_down == was_down) return;
  log(LogLevel::kWarning, "fs",
      std::string{kBatchClassNames.at(lane)} + " calls into '" + store_->options().base_path +
          (is_down ? "' do not end: they are answered at once, without it, until one does"
                   : "' end again"));
}

void Executor::watch() noexcept {
  const std::uint64_t stall_ns = store_->options().stall_ns;
  const std::uint64_t look_every_ns = std::max<std::uint64_t>(stall_ns / 5, 1'000'000);
  const MutexLock lock{watch_mutex_};
  while (!is_ending_) {
    const std::uint64_t now = now_ns();
    for (const auto& worker : workers_) {
      const std::uint64_t since = worker->busy_since_ns.load();
      const bool is_stalled = since != 0 && now > since && now - since > stall_ns;
      if (is_stalled == worker->is_aside.load()) continue;
      set_aside(*worker, is_stalled);
    }
    watch_changed_.wait_for(watch_mutex_, look_every_ns);
  }
}

Status Executor::stop(std::uint64_t deadline_ns) noexcept {
  if (has_stopped_.load()) return {};
  // Staged calls may be left behind, but not while they may still end.
  const std::uint64_t until_ns = std::min(deadline_ns, now_ns() + store_->options().stall_ns);
  for (const auto& worker : workers_) {
    if (worker->staged != nullptr) worker->staged->stop(until_ns);
  }
  LARDER_TRY(scheduler_.stop(deadline_ns));
  std::size_t left = 0;
  for (const auto& calls : hung_) {
    calls->wait_empty(until_ns);
    left += calls->count();
  }
  if (left > 0) {
    log(LogLevel::kWarning, "fs",
        "closed '" + store_->options().base_path + "' though the file system has not ended " +
            std::to_string(left) + (left == 1 ? " call" : " calls") +
            "; what they change may still take effect");
  }
  has_stopped_.store(true);
  return {};
}

void Executor::append_report(Report& report) const {
  scheduler_.append_report(report);
  report.counters.push_back({"bytes_loading", budget_.taken()});
  std::uint64_t all_hung = 0;
  const MutexLock lock{watch_mutex_};
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const std::size_t hung = aside_.at(i) + hung_.at(i)->count();
    all_hung += hung;
    if (hung == 0) continue;
    const bool is_down = hung >= store_->options().workers.at(i);
    report.health = std::max(report.health, is_down ? Health::kDown : Health::kDegraded);
    report.reasons.push_back(std::to_string(hung) + " " + kBatchClassNames.at(i) +
                             " calls into the file system have not ended" +
                             (is_down ? "; they are answered at once, without it" : ""));
  }
  report.counters.push_back({"calls_hung", all_hung});
}

}  // namespace larder::fs
