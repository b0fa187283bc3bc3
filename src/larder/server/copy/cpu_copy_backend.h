#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "larder/base/indexed_heap.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/completion_queue.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/copy/segments.h"

namespace larder::server {

struct CpuCopyOptions {
  std::uint32_t threads = 2;
  std::uint32_t jobs_max = 4096;  ///< In flight.
  std::string shared_memory = "/dev/shm";
  /// For tests: called in the copying thread, before each cell.
  std::function<void()> before_cell = [] {};

  SetupStatus validate() const;
};

/// The CopyBackend contract (K1 to K8) on CPUs: threads that take the cells of transfers, the first
/// transfer's first, so several work on one transfer; and a thread that maps, unmaps and sums.
///
/// Invariants: a transfer is in the queue exactly while some of its cells have not been taken, and
///   in the heap of deadlines exactly while none has. A view is there until its kUnmap has come
///   back; its memory is unmapped after the last of its transfers.
/// Threads: any; reap() one at a time. Cost: one short lock per job and per cell; no allocation per
///   cell.
class CpuCopyBackend final : public CopyBackend {
 public:
  /// `clock` outlives it.
  static SetupResult<std::unique_ptr<CpuCopyBackend>> create(
      const CpuCopyOptions& options, const Clock& clock = RealClock::instance());
  /// Waits for running jobs: see stop().
  ~CpuCopyBackend() override;
  CpuCopyBackend(const CpuCopyBackend&) = delete;
  CpuCopyBackend& operator=(const CpuCopyBackend&) = delete;

  Status prepare_arena(std::span<std::byte> arena) noexcept override;
  Status submit(CopyJob& job) noexcept override LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<CopyJob*> done) noexcept override { return completions_.reap(done); }
  int event_fd() const noexcept override { return completions_.event_fd(); }
  void cancel(CopyJob& job) noexcept override LARDER_EXCLUDES(mutex_);
  void begin_until(std::uint64_t until_ns) noexcept override LARDER_EXCLUDES(mutex_);
  CopyStatistics statistics() const noexcept override LARDER_EXCLUDES(mutex_);
  Status stop(std::uint64_t deadline_ns) noexcept override LARDER_EXCLUDES(mutex_);

  const Segments& segments() const noexcept { return segments_; }

 private:
  struct View {
    std::shared_ptr<const CopyPlan> plan;
    std::vector<std::shared_ptr<const Segment>> segments;
    std::vector<std::byte*> memories;           ///< As CopyPlan::memories.
    std::vector<std::span<std::byte>> guarded;  ///< The same, for FaultGuard.
    std::uint64_t uses = 0;                     ///< Transfers and checksums in flight.
    CopyJob* unmap = nullptr;                   ///< Not null: it ends.
  };
  struct DeadlineOrder {
    static bool is_before(const CopyJob& a, const CopyJob& b) noexcept {
      return a.deadline_ns < b.deadline_ns;
    }
    static std::size_t place(const CopyJob& job) noexcept { return job.backend_place; }
    static void set_place(CopyJob& job, std::size_t place) noexcept { job.backend_place = place; }
  };
  /// Through CopyJob::backend_next and backend_previous.
  struct Queue {
    CopyJob* head = nullptr;
    CopyJob* tail = nullptr;
  };
  /// A cell in a thread's hands.
  struct Taken {
    CopyJob* job = nullptr;  ///< Null: the backend stops.
    const View* view = nullptr;
    std::uint32_t cell = 0;
  };

  CpuCopyBackend(const CpuCopyOptions& options, const Clock& clock);
  Status start();

  void copy_cells() noexcept;
  void map_views() noexcept;
  Taken take_cell() noexcept LARDER_EXCLUDES(mutex_);
  bool copy(const Taken& taken) const noexcept;
  void end_cell(const Taken& taken, bool is_good) noexcept LARDER_EXCLUDES(mutex_);
  void map(CopyJob& job) noexcept LARDER_EXCLUDES(mutex_);
  void unmap(CopyJob& job) noexcept LARDER_EXCLUDES(mutex_);
  void checksum(CopyJob& job) noexcept LARDER_EXCLUDES(mutex_);

  Status check(const CopyJob& job, const View& view) const noexcept;
  Status admit_transfer(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  Status admit_unmap(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  Status admit_checksum(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  /// One that does not end.
  Status find_open(ViewId id, View*& view) noexcept LARDER_REQUIRES(mutex_);
  View* find(ViewId view) noexcept LARDER_REQUIRES(mutex_);
  void expire() noexcept LARDER_REQUIRES(mutex_);
  /// The cells that have not begun never will; the job ends with the others.
  void withdraw(CopyJob& job, const Error& error) noexcept LARDER_REQUIRES(mutex_);
  /// A transfer or checksum has ended: the last one lets the view end.
  void end_use(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  /// When its last cell has ended.
  void end_if_over(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  void complete(CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  void enqueue(Queue& queue, CopyJob& job) noexcept LARDER_REQUIRES(mutex_);
  void dequeue(Queue& queue, CopyJob& job) noexcept LARDER_REQUIRES(mutex_);

  const CpuCopyOptions options_;
  const Clock& clock_;
  std::span<std::byte> arena_;  ///< Constant once there are transfers.
  Segments segments_;
  Completions<CopyJob, &CopyJob::backend_next> completions_;

  mutable Mutex mutex_;
  CondVar cells_wanted_;
  CondVar mapping_wanted_;
  CondVar idle_;
  Queue transfers_ LARDER_GUARDED_BY(mutex_);  ///< With cells to take.
  Queue mappings_ LARDER_GUARDED_BY(mutex_);
  IndexedHeap<CopyJob, DeadlineOrder> deadlines_ LARDER_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::unique_ptr<View>> views_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t views_made_ LARDER_GUARDED_BY(mutex_) = 0;
  CopyStatistics statistics_ LARDER_GUARDED_BY(mutex_);
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;
  std::uint64_t begin_until_ns_ LARDER_GUARDED_BY(mutex_) = kNever;
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;  ///< The threads leave.

  std::vector<Thread> threads_;  // Last, because they use the members above.
};

}  // namespace larder::server
