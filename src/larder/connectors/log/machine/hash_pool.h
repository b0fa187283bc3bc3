#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/thread.h"

namespace larder::log_store {

/// One piece of a value to hash. The caller's, but the pool's from submit() until reap() gives it
/// back; the same holds for the memory and the state.
struct HashJob {
  std::span<const iovec> memory;      ///< Added to `state` in order.
  StreamingHash128* state = nullptr;  ///< In one job at a time.
  void* user_data = nullptr;
  std::uint32_t tag = 0;    ///< The caller's, like user_data.
  HashJob* next = nullptr;  ///< The pool's while in flight; chains the result of reap().
};

/// Hashes large values on threads of its own, so that the reactor keeps answering.
///
/// Threads: one thread, the reactor, calls submit() and reap(). The pool's threads call `wake`,
///   without a lock, when a job ended and none was waiting to be reaped: it must make the reactor
///   call reap(), and may come late, when reap() has nothing more to return.
/// Ownership: the pool owns its threads; the destructor hashes submitted jobs, then joins the
///   threads. Everything that `wake` uses must outlive the pool.
/// Cost: a lock, never held while hashing, in submit(), in reap() and twice a job in a thread; no
///   allocation. Jobs are not bounded here: the caller bounds what it has in flight.
/// Without threads submit() hashes the job, `wake` is never called and the order is the caller's:
/// for the simulator, and for machines with one core.
class HashPool {
 public:
  static Result<std::unique_ptr<HashPool>> create(std::size_t threads, std::function<void()> wake);
  ~HashPool();
  HashPool(const HashPool&) = delete;
  HashPool& operator=(const HashPool&) = delete;

  void submit(HashJob& job) LARDER_EXCLUDES(mutex_);
  /// All jobs that have ended since the last call, in the order of their end, chained by `next`;
  /// null when there is none. Never waits for a job.
  HashJob* reap() LARDER_EXCLUDES(mutex_);

 private:
  /// First in, first out, chained by HashJob::next.
  struct Queue {
    HashJob* first = nullptr;
    HashJob* last = nullptr;

    bool empty() const noexcept { return first == nullptr; }
    void push(HashJob& job) noexcept;
    HashJob& pop() noexcept;
  };

  explicit HashPool(std::function<void()> wake) : wake_(std::move(wake)) {}
  void work() LARDER_EXCLUDES(mutex_);

  const std::function<void()> wake_;

  Mutex mutex_;
  CondVar work_arrived_;
  Queue waiting_ LARDER_GUARDED_BY(mutex_);
  Queue finished_ LARDER_GUARDED_BY(mutex_);
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;

  std::vector<Thread> threads_;
};

}  // namespace larder::log_store
