#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/thread.h"
#include "larder/connector/peer_state.h"
#include "larder/connector/tile_scheduler.h"

namespace larder {

/// Parameters of a call besides the item.
struct CallOptions {
  std::uint64_t deadline_ns = kNever;  ///< The batch's: a call that can end by then should.
  SetMode set_mode = SetMode::kIfAbsent;
  bool allow_shorter = false;
};

/// The calls that a blocking backend provides: a connection per worker and one call per item. A
/// value, not a base class: the pool's threads start when the backend is complete and end before it
/// dies.
///
/// A call returns OK and has set item.outcome (never kFailed) with value_bytes and existed where
/// the operation has them; or it returns the item's error (for kSizeMismatch with value_bytes set).
/// kUnavailable, kDeadlineExceeded and exceptions mean that the connection may be out of step: the
/// pool drops it and connects again. An exception is the item's failure (kInternal).
/// item.connector_words are the pool's. Key and slices have been checked.
/// Threads: connect() and the calls come from many threads at once; one connection is used, and
/// destroyed, by the thread that made it.
template <class B>
concept BlockingBackend = std::move_constructible<B> && std::movable<typename B::Connection> &&
                          requires(B& backend, typename B::Connection& connection, Item& item,
                                   const CallOptions& options) {
                            { backend.connect() } -> std::same_as<Result<typename B::Connection>>;
                            { backend.get(connection, item, options) } -> std::same_as<Status>;
                            { backend.set(connection, item, options) } -> std::same_as<Status>;
                            { backend.exists(connection, item, options) } -> std::same_as<Status>;
                            { backend.remove(connection, item, options) } -> std::same_as<Status>;
                            { backend.touch(connection, item, options) } -> std::same_as<Status>;
                          };

/// The threads, the limits, and the wait before a lost peer is tried again.
struct WorkerPoolOptions {
  TileSchedulerOptions scheduler;
  ReconnectOptions reconnect;

  SetupStatus validate() const;
};

/// The Connector contract (C1 to C8) over blocking calls: a connector that has a Backend is a
/// PooledConnector, and adds what the pool knows to its report.
///
/// Lanes: lookups, loads and stores have their own queues and threads, so that a one-key Exists
///   never waits behind loads. See TileScheduler for tiles, urgency, deadlines and cancel().
/// Connections: made by each worker when it first needs one. A worker that loses its peer fails its
///   items with kUnavailable at once, takes no more, and reconnects after a back-off that doubles.
///   When all workers of a lane are in this state, the intake answers for it.
/// Threads: any; reap() one at a time. Workers: one thread each, plus one timer.
/// Cost: no allocation per batch or key; a lock per batch and per tile.
template <BlockingBackend Backend>
class WorkerPool {
 public:
  /// `clock` outlives it.
  static SetupResult<std::unique_ptr<WorkerPool>> create(
      Backend backend, const WorkerPoolOptions& options,
      const Clock& clock = RealClock::instance()) {
    LARDER_TRY(options.validate());
    auto pool = std::unique_ptr<WorkerPool>{new WorkerPool{std::move(backend), options, clock}};
    if (const Status status = pool->start(options); !status) {
      return SetupError{status.error().code(),
                        options.scheduler.name + ": " + status.error().to_string()};
    }
    return pool;
  }

  /// Waits for calls that have not ended: see stop().
  ~WorkerPool() { stop(kNever).ignore("without a deadline it succeeds"); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  Status submit(Batch& batch) noexcept { return scheduler_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept { return scheduler_.reap(done); }
  int event_fd() const noexcept { return scheduler_.event_fd(); }
  void cancel(Batch& batch) noexcept { scheduler_.cancel(batch); }
  bool probe(std::span<Item> items) const noexcept { return scheduler_.probe(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept {
    return scheduler_.load_ns(sizes);
  }
  /// Refuses new batches, fails queued items, and waits for the calls that have begun. OK:
  /// everything accepted is published and no call runs. kUnavailable: a call has not ended at
  /// `deadline_ns`; ask again, and do not destroy the pool unless waiting for the call is meant.
  Status stop(std::uint64_t deadline_ns) noexcept { return scheduler_.stop(deadline_ns); }

  /// Adds health, reasons and counters.
  void append_report(Report& report) const {
    scheduler_.append_report(report);
    peer_.append_report(report);
  }

  Backend& backend() noexcept { return backend_; }

 private:
  using Connection = typename Backend::Connection;

  using Link = PeerState::Link;

  /// One worker: its connection and the state of its peer. Runs in one thread.
  class Worker {
   public:
    Worker(WorkerPool& pool, BatchClass lane, const ReconnectOptions& options, std::uint64_t seed)
        : pool_(pool), lane_(lane), backoff_(options, seed) {}

    void run() noexcept {
      for (;;) {
        const auto taken =
            pool_.scheduler_.take(lane_, link_ == Link::kDown, backoff_.retry_at_ns());
        if (taken.wake == TileScheduler::Wake::kStop) break;
        if (taken.wake == TileScheduler::Wake::kTime) {
          connect().ignore("it is counted, and tried again");
          continue;
        }
        const Batch& batch = *taken.tile.batch;
        for (Item& item : taken.tile.items) {
          if (pool_.scheduler_.intake().begin(batch, item)) {
            pool_.scheduler_.intake().end(batch, item, call(batch, item));
          }
        }
        pool_.scheduler_.intake().finish(taken.tile);
      }
      connection_.reset();
    }

   private:
    Status call(const Batch& batch, Item& item) noexcept {
      if (link_ != Link::kConnected) LARDER_TRY(connect_if_due());
      bool has_thrown = false;
      const Status status = call_backend(batch, item, has_thrown);
      const ErrorCode code = status ? ErrorCode::kNone : status.error().code();
      if (has_thrown || code == ErrorCode::kDeadlineExceeded ||
          (code == ErrorCode::kUnavailable && has_worked_)) {
        // The next item gets a new connection at once.
        drop_connection(Link::kIdle);
      } else if (code == ErrorCode::kUnavailable) {
        // A connection that never worked is as bad as none.
        note_failure(status.error());
        drop_connection(Link::kDown);
      } else {
        has_worked_ = true;
        backoff_.reset();
      }
      return status;
    }

    Status call_backend(const Batch& batch, Item& item, bool& has_thrown) noexcept {
      CallOptions options{batch.deadline_ns, batch.set_mode, batch.allow_shorter};
      Backend& backend = pool_.backend_;
      try {
        switch (batch.op) {
          case Op::kGet:
            return backend.get(*connection_, item, options);
          case Op::kSet:
            options.set_mode = pool_.scheduler_.intake().set_mode_of(batch, item);
            return backend.set(*connection_, item, options);
          case Op::kExists:
            return backend.exists(*connection_, item, options);
          case Op::kDelete:
            return backend.remove(*connection_, item, options);
          case Op::kTouch:
            return backend.touch(*connection_, item, options);
        }
        return Error{ErrorCode::kInternal, "worker pool", "the operation is unknown"};
      } catch (...) {
        has_thrown = true;
        return Error{ErrorCode::kInternal, "worker pool", "the backend threw an exception"};
      }
    }

    Status connect_if_due() noexcept {
      if (link_ == Link::kDown && pool_.clock_.now_ns() < backoff_.retry_at_ns()) {
        return Error{ErrorCode::kUnavailable, "worker pool",
                     "the peer could not be reached; waiting before the next attempt"};
      }
      return connect();
    }

    /// Reports every failure to connect as kUnavailable: for the items, the peer is not there.
    Status connect() noexcept {
      Result<Connection> made = make_connection();
      if (!made) {
        note_failure(made.error());
        set_link(Link::kDown);
        return Error{ErrorCode::kUnavailable, "worker pool",
                     "cannot connect; the report has the reason"};
      }
      connection_.emplace(std::move(*made));
      has_worked_ = false;
      backoff_.note_connected();
      set_link(Link::kConnected);
      return {};
    }

    Result<Connection> make_connection() noexcept {
      try {
        return pool_.backend_.connect();
      } catch (...) {
        return Error{ErrorCode::kInternal, "worker pool", "the backend threw while connecting"};
      }
    }

    void drop_connection(Link link) noexcept {
      connection_.reset();
      set_link(link);
    }

    void note_failure(const Error& error) noexcept {
      backoff_.note_failure(pool_.clock_.now_ns());
      pool_.peer_.note_failure(error);
    }

    void set_link(Link link) noexcept {
      if (link == link_) return;
      pool_.peer_.change(link_, link);
      if (link_ == Link::kDown || link == Link::kDown) {
        pool_.scheduler_.set_down(lane_, link == Link::kDown);
      }
      link_ = link;
    }

    WorkerPool& pool_;
    const BatchClass lane_;
    ReconnectBackoff backoff_;
    Link link_ = Link::kIdle;
    std::optional<Connection> connection_;  ///< Has one exactly while link_ is kConnected.
    bool has_worked_ = false;               ///< The peer answered a call on this connection.
  };

  static constexpr std::array<const char*, kBatchClassCount> kThreadSuffixes = {"-lookup", "-load",
                                                                                "-store"};

  WorkerPool(Backend backend, const WorkerPoolOptions& options, const Clock& clock)
      : clock_(clock), backend_(std::move(backend)), scheduler_(options.scheduler, clock) {}

  Status start(const WorkerPoolOptions& options) {
    LARDER_TRY(scheduler_.start());
    for (std::size_t lane = 0; lane < kBatchClassCount; ++lane) {
      for (std::uint32_t i = 0; i < options.scheduler.workers[lane]; ++i) {
        const std::uint64_t seed = RealClock::instance().now_ns() + workers_.size();
        Worker& worker = *workers_.emplace_back(std::make_unique<Worker>(
            *this, static_cast<BatchClass>(lane), options.reconnect, seed));
        scheduler_.add_worker();
        peer_.add_worker();
        auto thread =
            Thread::start(options.scheduler.name + kThreadSuffixes[lane], [this, &worker] {
              worker.run();
              scheduler_.remove_worker();
            });
        if (!thread) {
          scheduler_.remove_worker();
          return thread.error();
        }
        threads_.push_back(std::move(*thread));
      }
    }
    return {};
  }

  const Clock& clock_;
  Backend backend_;
  TileScheduler scheduler_;
  PeerState peer_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Thread> threads_;  // Last, because they use all of the above.
};

/// The part of the contract that a connector leaves to its pool: derive from it, and add
/// capabilities(), report() and scan().
template <BlockingBackend Backend>
class PooledConnector : public Connector {
 public:
  Status submit(Batch& batch) noexcept final { return pool_->submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept final { return pool_->reap(done); }
  int event_fd() const noexcept final { return pool_->event_fd(); }
  void cancel(Batch& batch) noexcept final { pool_->cancel(batch); }
  bool probe(std::span<Item> items) const noexcept final { return pool_->probe(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept final {
    return pool_->load_ns(sizes);
  }
  Status stop(std::uint64_t deadline_ns) noexcept override { return pool_->stop(deadline_ns); }

 protected:
  explicit PooledConnector(std::unique_ptr<WorkerPool<Backend>> pool) : pool_(std::move(pool)) {}

  WorkerPool<Backend>& pool() const noexcept { return *pool_; }

 private:
  const std::unique_ptr<WorkerPool<Backend>> pool_;
};

}  // namespace larder
