#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/completion_queue.h"
#include "larder/connector/connector.h"
#include "larder/connector/deadline_heap.h"
#include "larder/connector/failed_keys.h"
#include "larder/connector/outcome_window.h"

namespace larder {

inline constexpr std::uint32_t kLaneWorkersMax = 1024;

struct TileSchedulerOptions {
  std::string name = "pool";  ///< Of the threads, as tools show them.
  std::array<std::uint32_t, kBatchClassCount> workers = {2, 4, 4};  ///< Per lane; each 1 to 1024.
  /// Per lane: a batch of fewer is not cut. At least 1; more where a worker is done with an item
  /// sooner than another one wakes.
  std::array<std::uint32_t, kBatchClassCount> tile_items_min = {1, 1, 1};
  BatchLimitOptions limits;
  std::uint64_t value_bytes_max = kValueBytesMax;
  std::size_t slices_max = 1024;
  std::uint64_t miss_after_failure_ns = 30'000'000'000;
  std::size_t failed_keys_max = 65'536;

  SetupStatus validate() const;
};

/// The part of WorkerPool that knows no backend: accepted batches wait here, in one lane per
/// BatchClass, until a worker takes them in tiles; whoever ends a batch's last tile publishes it.
///
/// Tiles: a batch is cut into min(items / tile_items_min, workers of the lane) runs of items, at
///   least one, whose sizes differ by at most one. Within a lane tiles are taken by urgency,
///   weighted 8:4:2:1, first come first served within one urgency.
/// Ownership: uses connector_next, connector_pending and items[0].connector_words of every accepted
///   batch; allocates nothing per batch. Owns the timer thread, which fails what is still queued at
///   its deadline; the worker threads are WorkerPool's.
/// Invariant: a batch is in a queue, and in the heap if it has a deadline, exactly while some of
/// its
///   tiles have not been taken. Every tile is finished once, by the worker that took it or by the
///   one that withdrew it.
/// Threads: any, except that reap() is called by one at a time.
/// Cost: one short lock per batch submitted, per tile taken and per batch ended.
class TileScheduler {
 public:
  explicit TileScheduler(const TileSchedulerOptions& options);
  ~TileScheduler();
  TileScheduler(const TileScheduler&) = delete;
  TileScheduler& operator=(const TileScheduler&) = delete;

  /// Starts the timer. Once, before the first submit().
  Status start();

  // ---- The caller's side: as in Connector.
  Status submit(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  std::size_t reap(std::span<Batch*> done) noexcept { return completions_.reap(done); }
  int event_fd() const noexcept { return completions_.event_fd(); }
  void cancel(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);
  /// True when every item is a miss because its Get failed before; else nothing is known here.
  bool probe(std::span<Item> items) const noexcept;
  /// Waits until every batch is published and every worker has ended, or says kUnavailable at
  /// `deadline_ns`. May be called again.
  Status stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

  // ---- The workers' side.
  struct Tile {
    Batch* batch = nullptr;
    std::span<Item> items;
  };
  enum class Wake : std::uint8_t { kTile = 0, kTime, kStop };
  struct Taken {
    Wake wake = Wake::kStop;
    Tile tile;
  };

  void add_worker() noexcept LARDER_EXCLUDES(mutex_);
  void remove_worker() noexcept LARDER_EXCLUDES(mutex_);
  /// Waits for a tile, for `wake_at_ns` or for stop(). A worker that is down is given tiles (to
  /// fail them) only when its whole lane is down: else it would be the fastest and swallow
  /// everything.
  Taken take(BatchClass batch_class, bool is_down, std::uint64_t wake_at_ns) noexcept
      LARDER_EXCLUDES(mutex_);
  /// A worker lost its peer, or found it again.
  void set_down(BatchClass batch_class, bool is_down) noexcept LARDER_EXCLUDES(mutex_);
  /// False: the item is finished already (cancelled, late, invalid, a miss after a failed Get).
  bool begin_item(const Batch& batch, Item& item) noexcept;
  /// What the call left in `item`, or its error, becomes the item's outcome.
  void end_item(const Batch& batch, Item& item, const Status& status) noexcept;
  /// After the last item. The batch must not be touched any more.
  void finish(const Tile& tile) noexcept { finish_tiles(*tile.batch, 1); }

  /// What a Set must do to make the key readable again: a value that cannot be read is replaced.
  SetMode set_mode_of(const Batch& batch, const Item& item) const noexcept;

 private:
  struct Queue {
    Batch* head = nullptr;
    Batch* tail = nullptr;
  };
  struct Lane {
    std::array<Queue, kUrgencyCount> queues;
    std::array<std::uint32_t, kUrgencyCount> credits{};
    std::uint32_t workers = 0;
    std::uint32_t workers_down = 0;
    std::uint64_t batches_queued = 0;
    CondVar work;       ///< For the workers that are not down.
    CondVar work_down;  ///< For those that are.
  };
  /// Batches taken out of their queues with tiles left, linked by connector_next.
  struct Withdrawn {
    Batch* head = nullptr;
    bool is_stopping = false;
  };

  Lane& lane_of(Op op) noexcept LARDER_REQUIRES(mutex_);
  void enqueue(Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void dequeue(Batch& batch) noexcept LARDER_REQUIRES(mutex_);
  void withdraw(Batch& batch, Withdrawn& list) noexcept LARDER_REQUIRES(mutex_);
  Taken take_or_wait(Lane& lane, bool is_down, std::uint64_t wake_at_ns) noexcept
      LARDER_REQUIRES(mutex_);
  Batch* next_batch(Lane& lane) noexcept LARDER_REQUIRES(mutex_);
  Tile next_tile(Batch& batch) noexcept LARDER_REQUIRES(mutex_);

  std::uint32_t tiles_of(const Batch& batch) const noexcept;
  Withdrawn wait_for_expired() noexcept LARDER_EXCLUDES(mutex_);
  void run_timer() noexcept;
  void fail_withdrawn(const Withdrawn& list, const Error& error) noexcept;
  void fail_item(const Batch& batch, Item& item, const Error& error) noexcept;
  void finish_tiles(Batch& batch, std::uint32_t tiles) noexcept LARDER_EXCLUDES(mutex_);
  void publish(Batch& batch) noexcept LARDER_EXCLUDES(mutex_);

  // Constant after construction.
  const TileSchedulerOptions options_;
  const Clock& clock_;

  // Synchronise themselves.
  BatchLimits limits_;
  OutcomeWindow outcomes_;
  CompletionQueue completions_;
  FailedKeys failed_keys_;
  std::atomic<bool> is_stopping_ = false;  ///< Set under mutex_.

  mutable Mutex mutex_;
  std::array<Lane, kBatchClassCount> lanes_ LARDER_GUARDED_BY(mutex_);
  DeadlineHeap deadlines_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t batches_in_flight_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint32_t workers_alive_ LARDER_GUARDED_BY(mutex_) = 0;
  CondVar deadline_changed_;
  CondVar ended_;

  Thread timer_;  // Last: it uses all of the above.
};

}  // namespace larder
