#include "larder/connectors/log/machine/hash_pool.h"

#include <utility>

namespace larder::log_store {
namespace {

void hash(const HashJob& job) noexcept {
  for (const iovec& piece : job.memory) {
    job.state->update({static_cast<const std::byte*>(piece.iov_base), piece.iov_len});
  }
}

}  // namespace

void HashPool::Queue::push(HashJob& job) noexcept {
  job.next = nullptr;
  (first == nullptr ? first : last->next) = &job;
  last = &job;
}

HashJob& HashPool::Queue::pop() noexcept {
  HashJob& job = *first;
  first = job.next;
  return job;
}

Result<std::unique_ptr<HashPool>> HashPool::create(std::size_t threads,
                                                   std::function<void()> wake) {
  std::unique_ptr<HashPool> pool{new HashPool(std::move(wake))};
  for (std::size_t i = 0; i < threads; ++i) {
    LARDER_ASSIGN(Thread thread, Thread::start("larder-hash", [&self = *pool] { self.work(); }));
    pool->threads_.push_back(std::move(thread));
  }
  return pool;
}

HashPool::~HashPool() {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
  }
  work_arrived_.notify_all();
  for (Thread& thread : threads_) thread.join();
}

void HashPool::submit(HashJob& job) {
  if (threads_.empty()) hash(job);
  {
    const MutexLock lock{mutex_};
    (threads_.empty() ? finished_ : waiting_).push(job);
  }
  if (!threads_.empty()) work_arrived_.notify_one();
}

HashJob* HashPool::reap() {
  const MutexLock lock{mutex_};
  return std::exchange(finished_, {}).first;
}

void HashPool::work() {
  for (;;) {
    HashJob* job = nullptr;
    {
      const MutexLock lock{mutex_};
      while (waiting_.empty() && !is_stopping_) work_arrived_.wait(mutex_);
      if (waiting_.empty()) return;
      job = &waiting_.pop();
    }
    hash(*job);
    bool is_first = false;
    {
      const MutexLock lock{mutex_};
      is_first = finished_.empty();
      finished_.push(*job);
    }
    // The reactor may be reusing `job` by now.
    if (is_first) wake_();
  }
}

}  // namespace larder::log_store
