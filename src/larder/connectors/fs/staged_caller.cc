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

/// State shared by caller and call: the call's while it runs, then the caller's.
struct StagedCaller::Task {
  std::uint64_t begun_ns = 0;
  Op op = Op::kGet;
  std::string key;
  AlignedBuffer buffer;
  Slice slice;
  Item item;
  CallOptions options;
  Status status;
  StagingBuffer staging;

  ChangeGate gate;  ///< Closed when the call is given up, and never opened again.
  HungCalls::Calls::node_type entry = HungCalls::new_entry();  ///< Until then.
  HungCalls::Calls::iterator place;                            ///< From then on.
};

StagedCaller::StagedCaller(std::shared_ptr<const StagedTarget> target,
                           std::shared_ptr<HungCalls> hung)
    : target_(std::move(target)), hung_(std::move(hung)) {}

StagedCaller::~StagedCaller() = default;

Status StagedCaller::call(Op op, Item& item, const CallOptions& options) {
  LARDER_TRY(wait_for_turn(op, item, options));
  if (helper_ == nullptr) LARDER_TRY(start_helper());
  LARDER_TRY(prepare(op, item, options));
  begin();
  LARDER_TRY(wait(options));
  return take_over(op, item);
}

Status StagedCaller::wait_for_turn(Op op, const Item& item, const CallOptions& options) {
  // A call whose failure was reported to the caller is already listed: it was added before.
  std::string name;
  if (!is_read(op) && hung_->count() > 0) name = target_->name_of(item.key);
  return hung_->wait_for_turn({.calls_max = target_->hung_max,
                               .changes = name.empty() ? nullptr : &name,
                               .stall_ns = target_->stall_ns,
                               .deadline_ns = options.deadline_ns},
                              is_stopping_);
}

Status StagedCaller::start_helper() {
  auto task = std::make_shared<Task>();
  LARDER_ASSIGN(auto helper, CallThread::start("larder-fs-call", target_->before_look));
  task_ = std::move(task);
  const MutexLock lock{mutex_};
  helper_ = std::move(helper);
  return {};
}

Status StagedCaller::prepare(Op op, const Item& item, const CallOptions& options) {
  Task& task = *task_;
  task.op = op;
  task.key.assign(reinterpret_cast<const char*>(item.key.data()), item.key.size());
  task.options = options;
  task.item = {};
  task.item.key = std::as_bytes(std::span{task.key});
  task.status = {};
  if (item.value.empty()) return {};
  const std::uint64_t bytes = bytes_of(item.value);
  if (task.buffer.size() < bytes) {
    task.buffer = {};
    LARDER_ASSIGN(task.buffer, AlignedBuffer::create(bytes, target_->buffer_alignment));
  }
  task.slice = {task.buffer.data(), static_cast<std::size_t>(bytes)};
  task.item.value = {&task.slice, 1};
  if (op == Op::kSet && bytes > 0) {
    copy_from_slices({task.buffer.data(), bytes_of(item.value)}, item.value);
    FsCounters::add(target_->counters->bytes_staged, bytes);
  }
  return {};
}

void StagedCaller::begin() {
  task_->begun_ns = target_->clock->now_ns();
  helper_->begin({.run =
                      [target = target_, task = task_] {
                        task->status = target->run(task->op, task->item, task->options,
                                                   task->staging, task->gate);
                      },
                  .on_end =
                      [hung = hung_, task = task_](bool was_abandoned) {
                        if (was_abandoned) hung->remove(task->place);
                      }});
}

Status StagedCaller::wait(const CallOptions& options) {
  const bool has_deadline = options.deadline_ns != kNever;
  const std::uint64_t until_ns =
      has_deadline ? options.deadline_ns : task_->begun_ns + target_->stall_ns;
  for (;;) {
    const std::uint64_t stop_ns = stop_until_ns_.load();
    if (helper_->wait(std::min(until_ns, stop_ns), *target_->clock)) return {};
    const std::uint64_t now_ns = target_->clock->now_ns();
    if (now_ns >= stop_ns) return give_up(kStopped);
    if (now_ns >= until_ns) return give_up(has_deadline ? kLate : kNoAnswer);
  }
}

/// OK: it has ended after all.
Status StagedCaller::give_up(const Error& error) {
  // Before the failure is reported, so that an operation begun after it finds the call.
  const CallThread::GivenUp given_up = helper_->give_up([this] {
    task_->entry.key() = task_->begun_ns;
    task_->gate.close(task_->entry.mapped());
    task_->place = hung_->add(std::move(task_->entry));
  });
  if (given_up == CallThread::GivenUp::kHadEnded) return {};
  if (given_up == CallThread::GivenUp::kNotBegun) {
    return error.code() == ErrorCode::kDeadlineExceeded ? kNotBegun : error;
  }
  FsCounters::add(target_->counters->calls_abandoned);
  task_.reset();
  const MutexLock lock{mutex_};
  helper_ = nullptr;
  return error;
}

Status StagedCaller::take_over(Op op, Item& item) {
  const Item& answer = task_->item;
  item.value_bytes = answer.value_bytes;
  item.existed = answer.existed;
  item.outcome = answer.outcome;
  if (op == Op::kGet && answer.outcome == Outcome::kHit && task_->status) {
    copy_to_slices({task_->buffer.data(), answer.value_bytes}, item.value);
    FsCounters::add(target_->counters->bytes_staged, answer.value_bytes);
  }
  return task_->status;
}

void StagedCaller::stop(std::uint64_t until_ns) noexcept {
  stop_until_ns_.store(until_ns);
  is_stopping_.store(true);
  hung_->wake();
  const MutexLock lock{mutex_};
  if (helper_ != nullptr) helper_->interrupt();
}

}  // namespace larder::fs
