#include "larder/connector/reactor.h"

#include <algorithm>
#include <utility>

#include "larder/base/clock.h"

namespace larder {
namespace {

/// A thread may also wait for a processor: for so long the kernel has not kept it, however short
/// `stall_ns` is.
constexpr std::uint64_t kBlockedAfterAtLeastNs = 1'000'000'000;
/// How often the watcher looks until then, and how rarely at most.
constexpr std::uint64_t kLooksUntilBlocked = 4;
constexpr std::uint64_t kLookEveryAtMostNs = 1'000'000'000;

}  // namespace

Reactor::Reactor(Machine& machine, Intake& intake, ReactorOptions options)
    : machine_(machine), intake_(intake), options_(std::move(options)) {
  intake_.set_owner(this);
}

Reactor::~Reactor() {
  stop(kNever).ignore("kNever waits to the end");
}

Status Reactor::start() {
  LARDER_ASSIGN(thread_, Thread::start(options_.name, [this] { run(); }));
  if (options_.stall_ns == 0) return {};
  LARDER_ASSIGN(watcher_, Thread::start(options_.name + "-watch", [this] { watch(); }));
  return {};
}

void Reactor::notify() noexcept {
  has_news_.store(true, std::memory_order_seq_cst);
  // Either the thread sees the news before it sleeps, or this sees that it sleeps.
  if (is_asleep_.exchange(false, std::memory_order_seq_cst)) machine_.wake();
}

void Reactor::run() noexcept {
  bool is_stopping = false;
  for (;;) {
    turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    has_news_.store(false, std::memory_order_seq_cst);
    if (is_blocked_.exchange(false, std::memory_order_acquire)) machine_.note_unblocked();
    if (!is_stopping && is_stop_wanted_.load(std::memory_order_acquire)) {
      is_stopping = true;
      machine_.begin_stop();
    }
    machine_.turn();
    if (is_stopping && machine_.is_idle()) break;
    is_asleep_.store(true, std::memory_order_seq_cst);
    if (!has_news_.load(std::memory_order_seq_cst)) machine_.wait(machine_.next_timer_ns());
    is_asleep_.store(false, std::memory_order_relaxed);
  }
  {
    const MutexLock lock{mutex_};
    is_watch_over_ = true;
    changed_.notify_all();
  }
  machine_.close();
  const MutexLock lock{mutex_};
  has_ended_ = true;
  changed_.notify_all();
}

void Reactor::watch() noexcept {
  const std::uint64_t blocked_after_ns = std::max(options_.stall_ns, kBlockedAfterAtLeastNs);
  const std::uint64_t look_every_ns =
      std::min(blocked_after_ns / kLooksUntilBlocked, kLookEveryAtMostNs);
  const std::uint64_t looks_max = blocked_after_ns / look_every_ns;
  std::uint64_t turns_seen = 0;
  std::uint64_t looks = 0;
  for (;;) {
    {
      const MutexLock lock{mutex_};
      if (!is_watch_over_) changed_.wait_for(mutex_, look_every_ns);
      if (is_watch_over_) return;
    }
    // Looks are counted, not time: a process that was stopped as a whole was not blocked.
    const std::uint64_t turns = turns_.load(std::memory_order_relaxed);
    looks = turns == turns_seen ? looks + 1 : 0;
    turns_seen = turns;
    if (looks == 0) continue;
    machine_.wake();  // It may only sleep.
    if (looks < looks_max || is_blocked_.load(std::memory_order_relaxed)) continue;
    machine_.note_blocked();
    intake_.set_down(true);
    is_blocked_.store(true, std::memory_order_release);
  }
}

Status Reactor::stop(std::uint64_t deadline_ns) noexcept {
  intake_.stop();
  is_stop_wanted_.store(true, std::memory_order_release);
  if (!thread_.joinable()) return {};
  notify();
  {
    const MutexLock lock{mutex_};
    while (!has_ended_) {
      if (RealClock::instance().now_ns() >= deadline_ns) {
        return Error{ErrorCode::kUnavailable, "connector", "something is still in flight"};
      }
      RealClock::instance().wait_until(changed_, mutex_, deadline_ns);
    }
  }
  thread_.join();
  if (watcher_.joinable()) watcher_.join();
  return {};
}

}  // namespace larder
