#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/tile_scheduler.h"
#include "larder/connectors/fs/byte_budget.h"
#include "larder/connectors/fs/file_store.h"
#include "larder/connectors/fs/loader.h"
#include "larder/connectors/fs/staged_caller.h"

namespace larder::fs {

/// The Connector contract (C1 to C8) over a FileStore: threads for lookups, loads and stores, each
/// kind with its own.
///
/// Opens, creates, renames and removals are calls in these threads; the reads of a load's files are
/// the kernel's, of as many tiles at once as a Loader takes. `staged`: everything runs as a
/// StagedCaller's call. A call that has not ended after `stall` puts its thread aside; when all of
/// a lane are, the lane is down and its intake answers for it, until one comes back.
/// Ownership: shares the store. Threads: any; reap() one at a time. Owns the workers, one watching
/// thread, and the scheduler's timer.
class Executor {
 public:
  static SetupResult<std::unique_ptr<Executor>> create(std::shared_ptr<FileStore> store,
                                                       bool is_staged, bool has_ring);
  /// Waits for calls that have not ended: see stop().
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  Status submit(Batch& batch) noexcept { return scheduler_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept { return scheduler_.reap(done); }
  int event_fd() const noexcept { return scheduler_.event_fd(); }
  void cancel(Batch& batch) noexcept { scheduler_.cancel(batch); }
  bool probe(std::span<Item> items) const noexcept { return scheduler_.probe(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept {
    return scheduler_.load_ns(sizes);
  }
  Status stop(std::uint64_t deadline_ns) noexcept;
  void append_report(Report& report) const;

 private:
  /// One thread of a lane. `busy_since_ns` is 0 while it waits for work.
  struct Worker {
    BatchClass lane = BatchClass::kLookup;
    std::atomic<std::uint64_t> busy_since_ns = 0;
    std::atomic<bool> is_aside = false;  ///< Changed under watch_mutex_.
    std::unique_ptr<StagedCaller> staged;
    StagingBuffer staging;
  };

  Executor(std::shared_ptr<FileStore> store, bool is_staged, bool has_ring);

  Status start();
  Status start_thread(const std::string& name, std::function<void()> body);
  void run_worker(Worker& worker) noexcept;
  void run_loads(Worker& worker) noexcept;
  void run_tile(Worker& worker, const Ticket& tile) noexcept;
  Status call(Worker& worker, const Batch& batch, Item& item) noexcept;
  void note_progress(Worker& worker, std::uint64_t now_ns) noexcept LARDER_EXCLUDES(watch_mutex_);
  void set_aside(Worker& worker, bool is_aside) noexcept LARDER_REQUIRES(watch_mutex_);
  void watch() noexcept LARDER_EXCLUDES(watch_mutex_);

  const std::shared_ptr<FileStore> store_;
  const bool is_staged_;
  const bool has_ring_;
  TileScheduler scheduler_;
  ByteBudget budget_;
  std::array<std::shared_ptr<HungCalls>, kBatchClassCount> hung_;
  std::atomic<bool> has_stopped_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  mutable Mutex watch_mutex_;
  CondVar watch_changed_;
  bool is_ending_ LARDER_GUARDED_BY(watch_mutex_) = false;
  std::array<std::uint32_t, kBatchClassCount> aside_ LARDER_GUARDED_BY(watch_mutex_){};
  std::vector<Thread> threads_;  // Last, because they use the members above.
};

}  // namespace larder::fs
