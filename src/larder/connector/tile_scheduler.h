#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/connector.h"
#include "larder/connector/intake.h"

namespace larder {

inline constexpr std::uint32_t kLaneWorkersMax = 1024;

/// The threads of a pool, and how batches are dealt out to them.
struct TileSchedulerOptions {
  std::string name = "pool";  ///< The threads' name in tools such as top.
  std::array<std::uint32_t, kBatchClassCount> workers = {2, 4,
                                                         4};  ///< Workers of each lane; 1 to 1024.
  /// Per lane: a batch of fewer is not cut. At least 1; more where a worker finishes an item sooner
  /// than another one wakes.
  std::array<std::uint32_t, kBatchClassCount> tile_items_min = {1, 1, 1};
  IntakeOptions intake;

  SetupStatus validate() const;
};

/// The part of WorkerPool that knows no backend: an intake with a lane per BatchClass, whose
/// batches are taken in tiles by workers that wait for them here.
///
/// Tiles: a batch is cut into min(items / tile_items_min, workers of the lane) runs of items.
/// Ownership: owns the timer thread, which fails what is still queued at its deadline; the worker
///   threads are the pool's.
/// Threads: any, except that reap() is called by one at a time.
/// Cost: that of an intake, and one more short lock per batch and per tile.
class TileScheduler final : private IntakeOwner {
 public:
  /// `clock` outlives it.
  explicit TileScheduler(const TileSchedulerOptions& options,
                         const Clock& clock = RealClock::instance());
  ~TileScheduler() override;
  TileScheduler(const TileScheduler&) = delete;
  TileScheduler& operator=(const TileScheduler&) = delete;

  /// Starts the timer. Call it once, before the first submit().
  Status start();

  // ---- The caller's side: as in Connector.
  Status submit(Batch& batch) noexcept { return intake_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept { return intake_.reap(done); }
  int event_fd() const noexcept { return intake_.event_fd(); }
  void cancel(Batch& batch) noexcept { intake_.cancel(batch); }
  /// True when every item is a miss because its Get failed before; otherwise the answer is not
  /// known here.
  bool probe(std::span<Item> items) const noexcept { return intake_.probe_failed(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept {
    return intake_.load_ns(sizes);
  }
  /// Waits until every batch is published and every worker has ended, or says kUnavailable at
  /// `deadline_ns`. May be called again.
  Status stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

  // ---- The workers' side.
  enum class Wake : std::uint8_t { kTile = 0, kTime, kStop };
  struct Taken {
    Wake wake = Wake::kStop;
    Ticket tile;
  };

  void add_worker() noexcept LARDER_EXCLUDES(mutex_);
  void remove_worker() noexcept LARDER_EXCLUDES(mutex_);
  /// Waits for a tile, for `wake_at_ns` or for stop(). A worker that is down gets no tile: it would
  /// fail everything, and so be the fastest.
  Taken take(BatchClass batch_class, bool is_down, std::uint64_t wake_at_ns) noexcept
      LARDER_EXCLUDES(mutex_);
  /// A worker lost its peer, or found it again. When all workers of a lane are down, the lane is
  /// down and the intake answers for it.
  void set_down(BatchClass batch_class, bool is_down) noexcept LARDER_EXCLUDES(down_mutex_, mutex_);
  /// Call begin(), end() and finish() of it for taken items.
  Intake& intake() noexcept { return intake_; }

 private:
  struct Lane {
    std::uint32_t workers = 0;
    std::uint32_t workers_down = 0;
    TicketSize tile;
    CondVar work;  ///< Wakes the workers that are not down.
    CondVar time;  ///< Wakes the workers that are down: only stop() signals it.
  };

  void on_submitted(Op op) noexcept override LARDER_EXCLUDES(mutex_);
  Taken take_or_wait(Lane& lane, LaneNumber number, bool is_down, std::uint64_t wake_at_ns) noexcept
      LARDER_REQUIRES(mutex_);
  void run_timer() noexcept LARDER_EXCLUDES(mutex_);

  const std::string name_;
  const Clock& clock_;
  Intake intake_;

  /// Keeps the changes that several workers report for a lane in order, on their way to the intake.
  /// Taken first.
  Mutex down_mutex_;
  mutable Mutex mutex_;  ///< Taken before the intake's.
  std::array<Lane, kBatchClassCount> lanes_ LARDER_GUARDED_BY(mutex_);
  std::uint32_t workers_alive_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t timer_until_ns_ LARDER_GUARDED_BY(mutex_) = kNever;
  CondVar deadline_changed_;
  CondVar ended_;

  Thread timer_;  // Last: it uses all of the above.
};

}  // namespace larder
