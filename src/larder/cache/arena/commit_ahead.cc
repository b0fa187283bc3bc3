#include "larder/cache/arena/commit_ahead.h"

#include <algorithm>

namespace larder::cache {

Result<std::unique_ptr<CommitAhead>> CommitAhead::start(ArenaMemory& memory,
                                                        std::uint64_t capacity_bytes,
                                                        std::uint64_t ahead_bytes) {
  std::unique_ptr<CommitAhead> helper{
      new CommitAhead{memory, capacity_bytes, std::min(ahead_bytes, capacity_bytes)}};
  LARDER_ASSIGN(helper->thread_,
                Thread::start("larder-commit", [raw = helper.get()] { raw->run(); }));
  return helper;
}

CommitAhead::~CommitAhead() {
  {
    const MutexLock lock{mutex_};
    is_stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void CommitAhead::on_used(std::uint64_t end) noexcept {
  const MutexLock lock{mutex_};
  used_end_ = std::max(used_end_, end);
  const std::uint64_t wanted = std::min(used_end_ + ahead_bytes_ / 2, capacity_bytes_);
  if (!is_asleep_ || memory_.committed_bytes() >= wanted) return;
  is_asleep_ = false;
  wake_.notify_all();
}

std::uint64_t CommitAhead::target() const noexcept {
  const std::uint64_t room = capacity_bytes_ - std::min(used_end_, capacity_bytes_);
  return used_end_ + std::min(ahead_bytes_, room);
}

void CommitAhead::run() noexcept {
  while (true) {
    std::uint64_t end = 0;
    {
      const MutexLock lock{mutex_};
      while (is_asleep_ && !is_stopping_) wake_.wait(mutex_);
      if (is_stopping_) return;
      end = target();
      if (memory_.committed_bytes() >= end) {
        is_asleep_ = true;
        continue;
      }
    }
    if (memory_.commit_step(end)) continue;
    const MutexLock lock{mutex_};
    is_asleep_ = true;
  }
}

}  // namespace larder::cache
