#include "larder/server/copy/cpu_copy_backend.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "larder/base/check.h"
#include "larder/server/copy/fault_guard.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

constexpr std::uint32_t kThreadsMax = 256;

constexpr bool is_transfer(const CopyJob& job) noexcept {
  return job.op == CopyOp::kStore || job.op == CopyOp::kRetrieve;
}

Error error_of(ErrorCode code, const char* what) noexcept {
  return {code, "copy", what};
}

/// State of an earlier use of the job.
void reset(CopyJob& job) noexcept {
  job.outcome = CopyOutcome::kPending;
  job.error = {};
  job.reason.clear();
  job.backend_taken = 0;
  job.backend_left = static_cast<std::uint32_t>(job.cells.size());
}

}  // namespace

SetupStatus CpuCopyOptions::validate() const {
  if (threads == 0 || threads > kThreadsMax) {
    return SetupError{ErrorCode::kInvalidArgument, "copy threads are " + std::to_string(threads) +
                                                       "; they must be 1 to " +
                                                       std::to_string(kThreadsMax)};
  }
  if (jobs_max == 0) {
    return SetupError{ErrorCode::kInvalidArgument, "copy jobs_max is 0; it must be 1 at least"};
  }
  return {};
}

SetupResult<std::unique_ptr<CpuCopyBackend>> CpuCopyBackend::create(const CpuCopyOptions& options,
                                                                    const Clock& clock) {
  LARDER_TRY(options.validate());
  std::unique_ptr<CpuCopyBackend> backend{new CpuCopyBackend{options, clock}};
  if (const Status status = backend->start(); !status) {
    return SetupError{status.error().code(), "copy: " + status.error().to_string()};
  }
  return backend;
}

CpuCopyBackend::CpuCopyBackend(const CpuCopyOptions& options, const Clock& clock)
    : options_(options), clock_(clock), segments_(options.shared_memory) {
  deadlines_.reserve(options.jobs_max);
}

Status CpuCopyBackend::start() {
  LARDER_TRY(FaultGuard::install());
  LARDER_ASSIGN(Thread mapper, Thread::start("copy-map", [this] { map_views(); }));
  threads_.push_back(std::move(mapper));
  for (std::uint32_t i = 0; i < options_.threads; ++i) {
    LARDER_ASSIGN(Thread worker, Thread::start("copy", [this] { copy_cells(); }));
    threads_.push_back(std::move(worker));
  }
  return {};
}

CpuCopyBackend::~CpuCopyBackend() {
  stop(kNever).ignore("without a deadline it succeeds");
  {
    const MutexLock lock{mutex_};
    is_ending_ = true;
  }
  cells_wanted_.notify_all();
  mapping_wanted_.notify_all();
  threads_.clear();
}

Status CpuCopyBackend::prepare_arena(std::span<std::byte> arena) noexcept {
  arena_ = arena;
  return {};
}

// ---- The caller's side.

Status CpuCopyBackend::submit(CopyJob& job) noexcept {
  const MutexLock lock{mutex_};
  if (is_stopping_) return error_of(ErrorCode::kUnavailable, "the server is ending");
  const bool is_full = statistics_.jobs_in_flight >= options_.jobs_max;
  if (is_full && job.op != CopyOp::kUnmap) {
    return error_of(ErrorCode::kResourceExhausted, "too many copies at once");
  }
  switch (job.op) {
    case CopyOp::kMap:
      if (job.plan == nullptr) return error_of(ErrorCode::kInvalidArgument, "there is no plan");
      reset(job);
      enqueue(mappings_, job);
      mapping_wanted_.notify_one();
      break;
    case CopyOp::kUnmap:
      LARDER_TRY(admit_unmap(job));
      break;
    case CopyOp::kStore:
    case CopyOp::kRetrieve:
      LARDER_TRY(admit_transfer(job));
      break;
    case CopyOp::kChecksum:
      LARDER_TRY(admit_checksum(job));
      break;
  }
  ++statistics_.jobs_in_flight;
  return {};
}

Status CpuCopyBackend::check(const CopyJob& job, const View& view) const noexcept {
  constexpr std::size_t kCellsMax = std::numeric_limits<std::uint32_t>::max();
  if (job.cells.empty() || job.cells.size() > kCellsMax || job.blocks == nullptr) {
    return error_of(ErrorCode::kInvalidArgument, "a transfer has no cells or no blocks");
  }
  std::uint32_t chunks = 0;
  for (const JobCell& cell : job.cells) {
    if (cell.chunk >= wire::limits::kTokens || cell.group >= view.plan->groups.size()) {
      return error_of(ErrorCode::kInvalidArgument, "a cell is of no chunk or object group");
    }
    const std::uint64_t bytes = view.plan->groups[cell.group].cell_bytes;
    if (cell.offset > arena_.size() || arena_.size() - cell.offset < bytes) {
      return error_of(ErrorCode::kInvalidArgument, "a cell is not within the arena");
    }
    chunks = std::max(chunks, cell.chunk + 1);
  }
  if (!check_blocks(*view.plan, *job.blocks, chunks)) {
    return error_of(ErrorCode::kInvalidArgument, "the blocks do not fit the view or the range");
  }
  return {};
}

Status CpuCopyBackend::admit_transfer(CopyJob& job) noexcept {
  View* view = nullptr;
  LARDER_TRY(find_open(job.view, view));
  LARDER_TRY(check(job, *view));
  reset(job);
  ++view->uses;
  enqueue(transfers_, job);
  deadlines_.add(job);
  if (job.cells.size() == 1) {
    cells_wanted_.notify_one();
  } else {
    cells_wanted_.notify_all();
  }
  return {};
}

Status CpuCopyBackend::admit_unmap(CopyJob& job) noexcept {
  View* view = nullptr;
  LARDER_TRY(find_open(job.view, view));
  reset(job);
  view->unmap = &job;
  for (CopyJob* each = transfers_.head; each != nullptr;) {
    CopyJob* const next = each->backend_next;
    // A running one continues to its end.
    if (each->view == job.view && each->backend_taken == 0) {
      withdraw(*each, error_of(ErrorCode::kCancelled, "the worker's registration has ended"));
    }
    each = next;
  }
  if (view->uses == 0 && !job.backend_is_queued) {
    enqueue(mappings_, job);
    mapping_wanted_.notify_one();
  }
  return {};
}

Status CpuCopyBackend::admit_checksum(CopyJob& job) noexcept {
  View* view = nullptr;
  LARDER_TRY(find_open(job.view, view));
  if (job.checksums == nullptr) {
    return error_of(ErrorCode::kInvalidArgument, "there is no place for the checksums");
  }
  reset(job);
  ++view->uses;
  enqueue(mappings_, job);
  mapping_wanted_.notify_one();
  return {};
}

void CpuCopyBackend::cancel(CopyJob& job) noexcept {
  const MutexLock lock{mutex_};
  if (!is_transfer(job) || !job.backend_is_queued) return;
  withdraw(job, error_of(ErrorCode::kCancelled, "the transfer was cancelled"));
}

CopyStatistics CpuCopyBackend::statistics() const noexcept {
  const MutexLock lock{mutex_};
  CopyStatistics statistics = statistics_;
  statistics.views = views_.size();
  return statistics;
}

Status CpuCopyBackend::stop(std::uint64_t deadline_ns) noexcept {
  const MutexLock lock{mutex_};
  is_stopping_ = true;
  while (transfers_.head != nullptr) {
    withdraw(*transfers_.head, error_of(ErrorCode::kCancelled, "the server is ending"));
  }
  while (statistics_.jobs_in_flight != 0) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= deadline_ns) return error_of(ErrorCode::kUnavailable, "a copy still runs");
    idle_.wait_for(mutex_, deadline_ns - now_ns);
  }
  return {};
}

// ---- Threads that copy.

void CpuCopyBackend::copy_cells() noexcept {
  for (Taken taken = take_cell(); taken.job != nullptr; taken = take_cell()) {
    options_.before_cell();
    end_cell(taken, copy(taken));
  }
}

void CpuCopyBackend::begin_until(std::uint64_t until_ns) noexcept {
  const MutexLock lock{mutex_};
  begin_until_ns_ = until_ns;
  if (transfers_.head != nullptr) cells_wanted_.notify_all();
}

CpuCopyBackend::Taken CpuCopyBackend::take_cell() noexcept {
  const MutexLock lock{mutex_};
  for (;;) {
    expire();
    if (transfers_.head != nullptr && clock_.now_ns() < begin_until_ns_) break;
    if (is_ending_) return {};
    cells_wanted_.wait(mutex_);
  }
  CopyJob& job = *transfers_.head;
  if (job.backend_taken == 0) deadlines_.remove(job);
  const Taken taken{.job = &job, .view = find(job.view), .cell = job.backend_taken++};
  if (job.backend_taken == job.cells.size()) dequeue(transfers_, job);
  return taken;
}

bool CpuCopyBackend::copy(const Taken& taken) const noexcept {
  const CopyJob& job = *taken.job;
  const JobCell& cell = job.cells[taken.cell];
  const CellCopy copy{.group = &taken.view->plan->groups[cell.group],
                      .memories = taken.view->memories,
                      .blocks = job.blocks,
                      .chunk = cell.chunk,
                      .skip_tokens = job.skip_tokens,
                      .cell = arena_.data() + cell.offset};
  const auto direction =
      job.op == CopyOp::kStore ? CopyDirection::kStore : CopyDirection::kRetrieve;
  return FaultGuard::run(taken.view->guarded,
                         [&copy, direction]() noexcept { copy_cell(copy, direction); });
}

void CpuCopyBackend::end_cell(const Taken& taken, bool is_good) noexcept {
  const MutexLock lock{mutex_};
  CopyJob& job = *taken.job;
  const std::uint64_t bytes = taken.view->plan->groups[job.cells[taken.cell].group].cell_bytes;
  if (is_good) {
    (job.op == CopyOp::kStore ? statistics_.bytes_stored : statistics_.bytes_retrieved) += bytes;
  } else {
    ++statistics_.faults;
    const Error error =
        error_of(ErrorCode::kIo, "the worker's shared memory ended within the copy");
    if (job.backend_is_queued) {
      withdraw(job, error);
    } else if (job.error.code() == ErrorCode::kNone) {
      job.error = error;
    }
  }
  --job.backend_left;
  end_if_over(job);
}

// ---- The thread that maps.

void CpuCopyBackend::map_views() noexcept {
  for (;;) {
    CopyJob* job = nullptr;
    {
      const MutexLock lock{mutex_};
      while (mappings_.head == nullptr && !is_ending_) mapping_wanted_.wait(mutex_);
      job = mappings_.head;
      if (job == nullptr) return;
      dequeue(mappings_, *job);
    }
    if (job->op == CopyOp::kMap) {
      map(*job);
    } else if (job->op == CopyOp::kUnmap) {
      unmap(*job);
    } else {
      checksum(*job);
    }
  }
}

void CpuCopyBackend::map(CopyJob& job) noexcept {
  auto view = std::make_unique<View>();
  view->plan = job.plan;
  for (const PlanMemory& memory : job.plan->memories) {
    auto segment = segments_.map(memory.name, memory.bytes);
    if (!segment) {
      job.error = error_of(segment.error().code, "the worker's shared memory cannot be mapped");
      job.reason = std::move(segment).error().text;
      break;
    }
    view->memories.push_back((*segment)->memory().data());
    view->guarded.push_back((*segment)->memory());
    view->segments.push_back(std::move(*segment));
  }
  const MutexLock lock{mutex_};
  if (job.error.code() == ErrorCode::kNone) {
    job.view = ViewId{++views_made_};
    views_.emplace(views_made_, std::move(view));
  }
  complete(job);
}

void CpuCopyBackend::unmap(CopyJob& job) noexcept {
  std::unique_ptr<View> view;
  {
    const MutexLock lock{mutex_};
    const auto found = views_.find(static_cast<std::uint64_t>(job.view));
    LARDER_CHECK(found != views_.end());
    view = std::move(found->second);
    views_.erase(found);
  }
  view.reset();  // Gigabytes take a while.
  const MutexLock lock{mutex_};
  complete(job);
}

void CpuCopyBackend::checksum(CopyJob& job) noexcept {
  const View* view = nullptr;
  {
    const MutexLock lock{mutex_};
    view = find(job.view);
  }
  const Status status = checksum_blocks(*view->plan, view->guarded, *job.checksums);
  const MutexLock lock{mutex_};
  if (!status) job.error = status.error();
  end_use(job);
}

// ---- With the lock held.

CpuCopyBackend::View* CpuCopyBackend::find(ViewId view) noexcept {
  const auto found = views_.find(static_cast<std::uint64_t>(view));
  return found == views_.end() ? nullptr : found->second.get();
}

Status CpuCopyBackend::find_open(ViewId id, View*& view) noexcept {
  view = find(id);
  if (view == nullptr) return error_of(ErrorCode::kInvalidArgument, "there is no such view");
  if (view->unmap != nullptr) return error_of(ErrorCode::kUnavailable, "the view is ending");
  return {};
}

void CpuCopyBackend::expire() noexcept {
  if (deadlines_.empty()) return;
  const std::uint64_t now_ns = clock_.now_ns();
  while (!deadlines_.empty() && deadlines_.first().deadline_ns <= now_ns) {
    withdraw(deadlines_.first(),
             error_of(ErrorCode::kDeadlineExceeded, "the transfer did not begin in time"));
  }
}

void CpuCopyBackend::withdraw(CopyJob& job, const Error& error) noexcept {
  LARDER_CHECK(job.backend_is_queued);
  if (job.backend_taken == 0) deadlines_.remove(job);
  dequeue(transfers_, job);
  job.backend_left -= static_cast<std::uint32_t>(job.cells.size()) - job.backend_taken;
  job.error = error;
  end_if_over(job);
}

void CpuCopyBackend::end_if_over(CopyJob& job) noexcept {
  if (job.backend_left == 0) end_use(job);
}

void CpuCopyBackend::end_use(CopyJob& job) noexcept {
  View* const view = find(job.view);
  LARDER_CHECK(view != nullptr && view->uses > 0);
  complete(job);
  if (--view->uses == 0 && view->unmap != nullptr) {
    enqueue(mappings_, *view->unmap);
    mapping_wanted_.notify_one();
  }
}

void CpuCopyBackend::complete(CopyJob& job) noexcept {
  const bool is_good = job.error.code() == ErrorCode::kNone;
  job.outcome = is_good ? CopyOutcome::kDone : CopyOutcome::kFailed;
  if (is_transfer(job)) {
    if (is_good) {
      ++(job.op == CopyOp::kStore ? statistics_.stores : statistics_.retrieves);
    } else {
      ++statistics_.failed;
      if (job.error.code() == ErrorCode::kDeadlineExceeded) ++statistics_.expired;
      if (job.error.code() == ErrorCode::kCancelled) ++statistics_.cancelled;
    }
  }
  --statistics_.jobs_in_flight;
  completions_.push(job);  // The caller's from here on.
  if (statistics_.jobs_in_flight == 0) idle_.notify_all();
}

void CpuCopyBackend::enqueue(Queue& queue, CopyJob& job) noexcept {
  LARDER_CHECK(!job.backend_is_queued);
  job.backend_is_queued = true;
  job.backend_next = nullptr;
  job.backend_previous = queue.tail;
  (queue.tail == nullptr ? queue.head : queue.tail->backend_next) = &job;
  queue.tail = &job;
}

void CpuCopyBackend::dequeue(Queue& queue, CopyJob& job) noexcept {
  (job.backend_previous == nullptr ? queue.head : job.backend_previous->backend_next) =
      job.backend_next;
  (job.backend_next == nullptr ? queue.tail : job.backend_next->backend_previous) =
      job.backend_previous;
  job.backend_next = nullptr;
  job.backend_previous = nullptr;
  job.backend_is_queued = false;
}

}  // namespace larder::server
