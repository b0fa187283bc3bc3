#include "larder/connectors/fs/staged_caller.h"

#include <algorithm>
#include <utility>

#include "larder/connector/slices.h"

namespace larder::fs {
namespace {

constexpr Error kStopped{ErrorCode::kCancelled, "fs", "the connector was stopped"};
constexpr Error kLate{ErrorCode::kDeadlineExceeded, "fs", "the file system is late"};
constexpr Error kNotBegun{ErrorCode::kDeadlineExceeded, "fs",
                          "the deadline passed before it was begun"};
constexpr Error kNoAnswer{ErrorCode::kUnavailable, "fs", "the file system does not answer"};

}  // namespace

/// Shared by the caller and the helper's thread. The task is the helper's in kRunning and kHung,
/// otherwise the caller's.
struct StagedCaller::Helper {
  enum class State : std::uint8_t { kIdle = 0, kPosted, kRunning, kDone, kHung, kEnding };

  explicit Helper(std::shared_ptr<const StagedTarget> kept) : target(std::move(kept)) {}

  /// False: there will be none.
  bool take_task() {
    target->before_look();
    const MutexLock lock{mutex};
    while (state != State::kPosted) {
      if (state == State::kEnding) return false;
      changed.wait(mutex);
    }
    state = State::kRunning;
    return true;
  }

  void work(HungCalls& hung) {
    while (take_task()) {
      status = target->run(op, item, options, staging, gate);
      const MutexLock lock{mutex};
      if (state == State::kHung) {
        hung.remove(place);
        return;
      }
      state = State::kDone;
      changed.notify_all();
    }
  }

  /// For the caller alone: whether it went to kHung.
  bool is_on_its_own() const noexcept { return entry.empty(); }

  const std::shared_ptr<const StagedTarget> target;
  Mutex mutex;
  CondVar changed;
  State state LARDER_GUARDED_BY(mutex) = State::kIdle;
  ChangeGate gate;  ///< Closed with kHung, and never opened again.
  HungCalls::Calls::node_type entry = HungCalls::new_entry();  ///< Until kHung.
  HungCalls::Calls::iterator place;                            ///< From kHung on.

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

StagedCaller::StagedCaller(std::shared_ptr<const StagedTarget> target,
                           std::shared_ptr<HungCalls> hung)
    : target_(std::move(target)), hung_(std::move(hung)) {}

StagedCaller::~StagedCaller() {
  if (helper_ == nullptr) return;
  const MutexLock lock{helper_->mutex};
  helper_->state = Helper::State::kEnding;
  helper_->changed.notify_all();
}

Status StagedCaller::call(Op op, Item& item, const CallOptions& options) {
  LARDER_TRY(wait_for_turn(op, item, options));
  if (helper_ == nullptr) LARDER_TRY(start_helper());
  LARDER_TRY(prepare(op, item, options));
  post();
  const Status waited = wait(options);
  if (waited) return take_over(op, item);
  if (helper_->is_on_its_own()) leave_helper_behind();
  return waited;
}

Status StagedCaller::wait_for_turn(Op op, const Item& item, const CallOptions& options) {
  const bool is_change = op == Op::kSet || op == Op::kDelete;
  // A call whose failure the caller knows is there already: it was added before it was reported.
  std::string name;
  if (is_change && hung_->count() > 0) name = target_->name_of(item.key);
  return hung_->wait_for_turn({.calls_max = target_->hung_max,
                               .changes = name.empty() ? nullptr : &name,
                               .stall_ns = target_->stall_ns,
                               .deadline_ns = options.deadline_ns},
                              is_stopping_);
}

Status StagedCaller::start_helper() {
  auto helper = std::make_shared<Helper>(target_);
  LARDER_ASSIGN(thread_,
                Thread::start("larder-fs-call", [helper, hung = hung_] { helper->work(*hung); }));
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
  if (item.value.empty()) return {};
  const std::uint64_t bytes = bytes_of(item.value);
  if (helper.buffer.size() < bytes) {
    helper.buffer = {};
    LARDER_ASSIGN(helper.buffer, AlignedBuffer::create(bytes, target_->buffer_alignment));
  }
  helper.slice = {helper.buffer.data(), static_cast<std::size_t>(bytes)};
  helper.item.value = {&helper.slice, 1};
  if (op == Op::kSet && bytes > 0) {
    copy_from_slices({helper.buffer.data(), bytes_of(item.value)}, item.value);
    FsCounters::add(target_->counters->bytes_staged, bytes);
  }
  return {};
}

void StagedCaller::post() noexcept {
  helper_->begun_ns = target_->clock->now_ns();
  const MutexLock lock{helper_->mutex};
  helper_->state = Helper::State::kPosted;
  helper_->changed.notify_all();
}

Status StagedCaller::wait(const CallOptions& options) {
  const bool has_deadline = options.deadline_ns != kNever;
  const std::uint64_t until_ns =
      has_deadline ? options.deadline_ns : helper_->begun_ns + target_->stall_ns;
  Helper& helper = *helper_;
  const MutexLock lock{helper.mutex};
  for (;;) {
    if (helper.state == Helper::State::kDone) {
      helper.state = Helper::State::kIdle;
      return {};
    }
    const std::uint64_t now_ns = target_->clock->now_ns();
    const std::uint64_t stop_ns = stop_until_ns_.load();
    if (now_ns < std::min(until_ns, stop_ns)) {
      helper.changed.wait_for(helper.mutex, std::min(until_ns, stop_ns) - now_ns);
      continue;
    }
    const bool has_begun = helper.state == Helper::State::kRunning;
    if (has_begun) {
      // Before its failure is reported, so that whatever is begun after it finds it.
      helper.entry.key() = helper.begun_ns;
      helper.gate.close(helper.entry.mapped());
      helper.place = hung_->add(std::move(helper.entry));
      helper.state = Helper::State::kHung;
    } else {
      helper.state = Helper::State::kIdle;
    }
    if (now_ns >= stop_ns) return kStopped;
    return !has_deadline ? kNoAnswer : has_begun ? kLate : kNotBegun;
  }
}

void StagedCaller::leave_helper_behind() noexcept {
  FsCounters::add(target_->counters->calls_abandoned);
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
    copy_to_slices({helper_->buffer.data(), answer.value_bytes}, item.value);
    FsCounters::add(target_->counters->bytes_staged, answer.value_bytes);
  }
  return helper_->status;
}

void StagedCaller::stop(std::uint64_t until_ns) noexcept {
  stop_until_ns_.store(until_ns);
  is_stopping_.store(true);
  hung_->wake();
  const MutexLock lock{mutex_};
  if (helper_ == nullptr) return;
  const MutexLock helper_lock{helper_->mutex};
  helper_->changed.notify_all();
}

}  // namespace larder::fs
