#include "larder/connectors/fs/staged_caller.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "larder/base/clock.h"

namespace larder::fs {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr Error kStopped{ErrorCode::kCancelled, "fs", "the connector was stopped"};
constexpr Error kLate{ErrorCode::kDeadlineExceeded, "fs", "the file system is late"};
constexpr Error kNoAnswer{ErrorCode::kUnavailable, "fs", "the file system does not answer"};

void copy_in(std::span<const Slice> slices, std::byte* to) noexcept {
  for (const Slice& slice : slices) {
    if (slice.bytes == 0) continue;
    std::memcpy(to, slice.data, slice.bytes);
    to += slice.bytes;
  }
}

void copy_out(const std::byte* from, std::uint64_t bytes, std::span<const Slice> slices) noexcept {
  for (const Slice& slice : slices) {
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(slice.bytes, bytes));
    if (taken == 0) continue;
    std::memcpy(slice.data, from, taken);
    from += taken;
    bytes -= taken;
  }
}

Status run(FileStore& store, Op op, Item& item, const CallOptions& options,
           StagingBuffer& staging) noexcept {
  try {
    switch (op) {
      case Op::kGet:
        return store.get(item, options, staging);
      case Op::kSet:
        return store.set(item, options, staging);
      case Op::kExists:
        return store.exists(item);
      case Op::kDelete:
        return store.remove(item);
      case Op::kTouch:
        return store.touch(item);
    }
    return Error{ErrorCode::kInternal, "fs", "the operation is unknown"};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResourceExhausted, "fs", "the process has no memory left"};
  } catch (...) {
    return Error{ErrorCode::kInternal, "fs", "an unknown exception"};
  }
}

}  // namespace

void Abandoned::add(std::uint64_t since_ns) {
  const MutexLock lock{mutex_};
  since_ns_.insert(since_ns);
}

void Abandoned::remove(std::uint64_t since_ns) {
  const MutexLock lock{mutex_};
  since_ns_.erase(since_ns_.find(since_ns));
  changed_.notify_all();
}

void Abandoned::wake() {
  const MutexLock lock{mutex_};
  changed_.notify_all();
}

std::size_t Abandoned::count() const {
  const MutexLock lock{mutex_};
  return since_ns_.size();
}

void Abandoned::wait_empty(std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  while (!since_ns_.empty()) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) return;
    changed_.wait_for(mutex_, until_ns - now_ns);
  }
}

Status Abandoned::wait_below(std::size_t max, std::uint64_t stall_ns, std::uint64_t deadline_ns,
                             const std::atomic<bool>& is_stopping) {
  const MutexLock lock{mutex_};
  while (since_ns_.size() >= max) {
    if (is_stopping.load()) return kStopped;
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    const std::uint64_t down_ns = *since_ns_.begin() + stall_ns;
    if (now_ns >= down_ns) return kNoAnswer;
    if (now_ns >= deadline_ns) return kLate;
    changed_.wait_for(mutex_, std::min(down_ns, deadline_ns) - now_ns);
  }
  return is_stopping.load() ? Status{kStopped} : Status{};
}

/// Shared by the caller and the helper's thread. Between kWorking and kDone the task is the
/// helper's, otherwise the caller's.
struct StagedCaller::Helper {
  enum class State : std::uint8_t { kIdle = 0, kWorking, kDone, kAbandoned, kEnding };

  explicit Helper(std::shared_ptr<FileStore> kept) : store(std::move(kept)) {}

  void work(Abandoned& abandoned) {
    for (;;) {
      {
        const MutexLock lock{mutex};
        while (state != State::kWorking) {
          if (state == State::kEnding) return;
          changed.wait(mutex);
        }
      }
      status = run(*store, op, item, options, staging);
      const MutexLock lock{mutex};
      if (state == State::kAbandoned) {
        abandoned.remove(begun_ns);
        return;
      }
      state = State::kDone;
      changed.notify_all();
    }
  }

  const std::shared_ptr<FileStore> store;
  Mutex mutex;
  CondVar changed;
  State state LARDER_GUARDED_BY(mutex) = State::kIdle;

  // The task.
  std::uint64_t begun_ns = 0;
  Op op = Op::kGet;
  std::string key;
  AlignedBuffer buffer;
  Slice slice;
  Item item;
  CallOptions options;
  Status status;
  StagingBuffer staging;
};

StagedCaller::StagedCaller(std::shared_ptr<FileStore> store, std::shared_ptr<Abandoned> abandoned,
                           std::size_t abandoned_max)
    : store_(std::move(store)), abandoned_(std::move(abandoned)), abandoned_max_(abandoned_max) {}

StagedCaller::~StagedCaller() {
  if (helper_ == nullptr) return;
  const MutexLock lock{helper_->mutex};
  helper_->state = Helper::State::kEnding;
  helper_->changed.notify_all();
}

Status StagedCaller::call(Op op, Item& item, const CallOptions& options) {
  LARDER_TRY(abandoned_->wait_below(abandoned_max_, store_->options().stall_ns, options.deadline_ns,
                                    is_stopping_));
  if (helper_ == nullptr) LARDER_TRY(start_helper());
  LARDER_TRY(prepare(op, item, options));
  LARDER_TRY(wait(options));
  return take_over(op, item);
}

Status StagedCaller::start_helper() {
  auto helper = std::make_shared<Helper>(store_);
  LARDER_ASSIGN(thread_, Thread::start("larder-fs-call", [helper, abandoned = abandoned_] {
                  helper->work(*abandoned);
                }));
  const MutexLock lock{mutex_};
  helper_ = std::move(helper);
  return {};
}

Status StagedCaller::prepare(Op op, const Item& item, const CallOptions& options) {
  Helper& helper = *helper_;
  helper.op = op;
  helper.key.assign(reinterpret_cast<const char*>(item.key.data()), item.key.size());
  helper.options = options;
  helper.item = {};
  helper.item.key = std::as_bytes(std::span{helper.key});
  helper.status = {};
  const std::uint64_t bytes = bytes_of(item.value);
  if (!item.value.empty()) {
    const auto& alignment = store_->facts().alignment;
    const std::size_t multiple =
        std::max<std::size_t>({alignment.memory, alignment.offset, kPageBytes});
    if (helper.buffer.size() < bytes) {
      helper.buffer = {};
      LARDER_ASSIGN(helper.buffer, AlignedBuffer::create(bytes, multiple));
    }
    helper.slice = {helper.buffer.data(), static_cast<std::size_t>(bytes)};
    helper.item.value = {&helper.slice, 1};
    if (op == Op::kSet && bytes > 0) {
      copy_in(item.value, helper.buffer.data());
      FsCounters::add(store_->counters().bytes_staged, bytes);
    }
  }
  helper.begun_ns = RealClock::instance().now_ns();
  const MutexLock lock{helper.mutex};
  helper.state = Helper::State::kWorking;
  helper.changed.notify_all();
  return {};
}

Status StagedCaller::wait(const CallOptions& options) {
  const bool has_deadline = options.deadline_ns != kNever;
  const std::uint64_t until_ns = has_deadline
                                     ? options.deadline_ns
                                     : RealClock::instance().now_ns() + store_->options().stall_ns;
  Helper& helper = *helper_;
  Error error;
  {
    const MutexLock lock{helper.mutex};
    for (;;) {
      if (helper.state == Helper::State::kDone) {
        helper.state = Helper::State::kIdle;
        return {};
      }
      const std::uint64_t now_ns = RealClock::instance().now_ns();
      const std::uint64_t stop_ns = stop_until_ns_.load();
      if (now_ns >= stop_ns) {
        error = kStopped;
      } else if (now_ns >= until_ns) {
        error = has_deadline ? kLate : kNoAnswer;
      } else {
        helper.changed.wait_for(helper.mutex, std::min(until_ns, stop_ns) - now_ns);
        continue;
      }
      helper.state = Helper::State::kAbandoned;
      abandoned_->add(helper.begun_ns);
      break;
    }
  }
  abandon();
  return error;
}

void StagedCaller::abandon() noexcept {
  FsCounters::add(store_->counters().calls_abandoned);
  thread_.detach();
  const MutexLock lock{mutex_};
  helper_ = nullptr;
}

Status StagedCaller::take_over(Op op, Item& item) {
  const Item& answer = helper_->item;
  item.value_bytes = answer.value_bytes;
  item.existed = answer.existed;
  item.outcome = answer.outcome;
  if (op == Op::kGet && answer.outcome == Outcome::kHit && helper_->status) {
    copy_out(helper_->buffer.data(), answer.value_bytes, item.value);
    FsCounters::add(store_->counters().bytes_staged, answer.value_bytes);
  }
  return helper_->status;
}

void StagedCaller::stop(std::uint64_t until_ns) noexcept {
  stop_until_ns_.store(until_ns);
  is_stopping_.store(true);
  abandoned_->wake();
  const MutexLock lock{mutex_};
  if (helper_ == nullptr) return;
  const MutexLock helper_lock{helper_->mutex};
  helper_->changed.notify_all();
}

}  // namespace larder::fs
