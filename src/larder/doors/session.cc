#include "larder/doors/session.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>
#include <new>
#include <system_error>

#include "larder/base/check.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/connector/report_line.h"

namespace larder::doors {
namespace {

constexpr std::size_t kFailedKeysMax = 16384;
/// For batches that a stopped connector has finished already.
constexpr std::uint64_t kReapPatienceNs = 10'000'000'000;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

std::size_t index_of(Op op) noexcept {
  return static_cast<std::size_t>(class_of(op));
}

bool is_legal(std::span<const std::byte> key) noexcept {
  return !key.empty() && key.size() <= kKeyBytesMax;
}

void wait_readable(int first, int second, std::uint64_t until_ns) noexcept {
  std::array<pollfd, 2> fds{{{first, POLLIN, 0}, {second, POLLIN, 0}}};
  timespec timeout{};
  if (until_ns != kNever) {
    const std::uint64_t now = now_ns();
    const std::uint64_t left = until_ns > now ? until_ns - now : 0;
    timeout.tv_sec = static_cast<time_t>(left / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(left % 1'000'000'000);
  }
  ::ppoll(fds.data(), fds.size(), until_ns == kNever ? nullptr : &timeout, nullptr);
}

Error closed_error() noexcept {
  return {ErrorCode::kCancelled, "session", "it was closed"};
}

}  // namespace

void Session::Queue::push_back(Operation& operation) noexcept {
  operation.behind_ = nullptr;
  (tail != nullptr ? tail->behind_ : head) = &operation;
  tail = &operation;
}

void Session::Queue::push_front(Operation& operation) noexcept {
  operation.behind_ = head;
  head = &operation;
  if (tail == nullptr) tail = &operation;
}

Operation* Session::Queue::pop_front() noexcept {
  Operation* const first = head;
  head = first->behind_;
  if (head == nullptr) tail = nullptr;
  first->behind_ = nullptr;
  return first;
}

Session::Session(std::unique_ptr<Connector>&& connector, EventFd wake,
                 const SessionOptions& options)
    : options_(options),
      wake_(std::move(wake)),
      failed_keys_(kFailedKeysMax),
      connector_(std::move(connector)) {}

SetupResult<std::unique_ptr<Session>> Session::start(std::unique_ptr<Connector> connector,
                                                     const SessionOptions& options) {
  Connector& raw = *connector;
  const auto give_up = [&raw](const Error& error) {
    raw.stop(now_ns() + kReapPatienceNs).ignore("the first error is the one to tell");
    return SetupError{error.code(), "session: " + error.to_string()};
  };
  auto wake = EventFd::create();
  if (!wake) return give_up(wake.error());
  std::unique_ptr<Session> session;
  try {
    session.reset(new Session{std::move(connector), std::move(*wake), options});
  } catch (const std::system_error& error) {
    return give_up(Error::from_errno(error.code().value(), "session", "no event descriptor"));
  } catch (const std::bad_alloc&) {
    return give_up({ErrorCode::kResourceExhausted, "session", "the process has no memory left"});
  }
  if (options.has_thread) {
    const MutexLock lock{session->mutex_};
    auto thread = Thread::start("larder-door", [self = session.get()] { self->run_thread(); });
    session->is_thread_wanted_ = thread.has_value();
    session->is_closed_ = !thread;
    if (!thread) return give_up(thread.error());
    session->thread_ = std::move(*thread);
  }
  return session;
}

SetupResult<std::unique_ptr<Session>> Session::open(const Registry& registry, const Spec& spec,
                                                    const SessionOptions& options) {
  const std::uint64_t begin_ns = now_ns();
  LARDER_ASSIGN(std::unique_ptr<Connector> connector, registry.open(spec));
  LARDER_ASSIGN(std::unique_ptr<Session> session, start(std::move(connector), options));
  session->say_opened(now_ns() - begin_ns);
  return session;
}

void Session::say_opened(std::uint64_t took_ns) const noexcept {
  try {
    const Report report = connector_->report();
    say(report.type, opened_line(report, took_ns));
  } catch (const std::exception&) {
    return;
  }
}

void Session::say_closed() const noexcept {
  try {
    const Report report = connector_->report();
    say(report.type, closed_line(report));
  } catch (const std::exception&) {
    return;
  }
}

void Session::say(const std::string& type, const std::string& line) const noexcept {
  if (options_.is_announced) {
    announce(type, line);
  } else {
    log(LogLevel::kInfo, type, line);
  }
}

Session::~Session() {
  const MutexLock lock{mutex_};
  LARDER_CHECK(is_closed_);
}

void Session::run_thread() noexcept {
  const MutexLock lock{mutex_};
  while (is_thread_wanted_) lead(kNever);
}

// --- Callers ------------------------------------------------------------------------------------

Status Session::submit(Operation& operation) noexcept {
  operation.batch.items = operation.items;
  operation.batch.user_data = &operation;
  replace_failed(operation.batch);
  const std::size_t index = index_of(operation.batch.op);
  const MutexLock lock{mutex_};
  if (is_closing_.load(std::memory_order_relaxed)) return closed_error();
  link(operation);
  Status status = Error{ErrorCode::kResourceExhausted, "session", "others wait for room already"};
  if (queues_[index].head == nullptr) status = hand_over(operation);
  if (status) {  // From here on it may be finished and gone.
    // What a connector has finished by now needs no other thread to wake up first.
    if (options_.has_thread && reap_ready() > 0) {
      start_queued();
      changed_.notify_all();
    }
    return {};
  }
  if (status.error().code() != ErrorCode::kResourceExhausted || !operation.waits_for_room) {
    unlink(operation);
    operation.where_ = Operation::Where::kCaller;
    refused_total_.fetch_add(1, std::memory_order_relaxed);
    return status;
  }
  operation.where_ = Operation::Where::kQueue;
  queues_[index].push_back(operation);
  queued_total_.fetch_add(1, std::memory_order_relaxed);
  if (operation.batch.deadline_ns < lead_until_ns_) wake_.signal();
  // The last one in the connector may have left while this one was being refused.
  if (accepted_[index] == 0) start_queued();
  return {};
}

bool Session::wait(Operation& operation, std::uint64_t until_ns) noexcept {
  const MutexLock lock{mutex_};
  while (operation.where_ != Operation::Where::kCaller) {
    if (may_lead()) {
      lead(until_ns);
      if (operation.where_ == Operation::Where::kCaller) return true;
    }
    const std::uint64_t now = now_ns();
    if (now >= until_ns) return false;
    if (!may_lead()) changed_.wait_for(mutex_, until_ns - now);
  }
  return true;
}

void Session::cancel(Operation& operation) noexcept {
  const MutexLock lock{mutex_};
  if (operation.where_ == Operation::Where::kConnector) connector_->cancel(operation.batch);
  if (operation.where_ != Operation::Where::kQueue) return;
  operation.batch.deadline_ns = 0;
  fail_queued(0, {ErrorCode::kCancelled, "session", "it was cancelled"});
}

bool Session::leave(Operation& operation) noexcept {
  const MutexLock lock{mutex_};
  if (operation.where_ == Operation::Where::kCaller) return false;
  operation.is_taken = true;
  return true;
}

void Session::post(Operation& operation) noexcept {
  operation.batch.items = operation.items;
  operation.batch.user_data = &operation;
  finished_.push(operation.batch);
}

Operation* Session::take() noexcept {
  Batch* batch = nullptr;
  if (finished_.reap({&batch, 1}) == 1) return static_cast<Operation*>(batch->user_data);
  if (options_.has_thread) return nullptr;
  {
    const MutexLock lock{mutex_};
    if (may_lead() && in_flight_ != nullptr) lead(0);
  }
  return finished_.reap({&batch, 1}) == 1 ? static_cast<Operation*>(batch->user_data) : nullptr;
}

bool Session::probe(std::span<Item> items) const noexcept {
  if (std::ranges::all_of(items, [](const Item& item) { return is_legal(item.key); })) {
    if (!connector_->probe(items)) return false;
  } else {
    for (Item& item : items) {
      if (is_legal(item.key)) {
        if (!connector_->probe({&item, 1})) return false;
      } else {
        item.outcome = Outcome::kFailed;
        item.error = {ErrorCode::kInvalidArgument, "session", "a key has 1 to 1024 bytes"};
      }
    }
  }
  if (failed_keys_.size() == 0) return true;
  const std::uint64_t now = now_ns();
  for (Item& item : items) {
    if (item.outcome == Outcome::kHit && failed_keys_.contains(item.key, now)) {
      item.outcome = Outcome::kMiss;
    }
  }
  return true;
}

// --- One thread reaps for all -------------------------------------------------------------------

void Session::lead(std::uint64_t until_ns) noexcept {
  has_leader_ = true;
  if (reap_ready() == 0) {
    const std::uint64_t wait_until_ns = std::min(until_ns, next_queued_deadline());
    lead_until_ns_ = wait_until_ns;
    mutex_.unlock();
    wait_readable(connector_->event_fd(), wake_.get(), wait_until_ns);
    wake_.drain();
    mutex_.lock();
    lead_until_ns_ = 0;
    reap_ready();
  }
  if (next_queued_deadline() != kNever) {
    fail_queued(now_ns(), {ErrorCode::kDeadlineExceeded, "session", "no room before the deadline"});
  }
  start_queued();
  has_leader_ = false;
  changed_.notify_all();
}

std::size_t Session::reap_ready() noexcept {
  std::array<Batch*, 64> done{};
  std::size_t total = 0;
  for (;;) {
    const std::size_t count = connector_->reap(done);
    total += count;
    for (Batch* const batch : std::span{done}.first(count)) {
      --accepted_[index_of(batch->op)];
      finish(*static_cast<Operation*>(batch->user_data));
    }
    if (count < done.size()) return total;
  }
}

void Session::finish(Operation& operation) noexcept {
  note_outcomes(operation.batch);
  unlink(operation);
  operation.where_ = Operation::Where::kCaller;
  if (operation.is_taken) finished_.push(operation.batch);
}

void Session::finish_as(Operation& operation, const Error& error) noexcept {
  for (Item& item : operation.items) {
    item.value_bytes = 0;
    item.existed = false;
    item.outcome = Outcome::kFailed;
    item.error = error;
    if (operation.batch.op == Op::kGet) {
      failed_keys_.note_failed_get(item.key, error.code(), now_ns(),
                                   options_.miss_after_failure_ns);
    }
  }
  finish(operation);
  wake_.signal();  // The leader may be the one who waits for it.
}

/// What is a miss here must not be left in place by its next store. The mode is the batch's, so the
/// other keys' values are written again too, which costs a write and no harm.
void Session::replace_failed(Batch& batch) const noexcept {
  if (!options_.misses_wrong_sizes || failed_keys_.size() == 0) return;
  if (batch.op != Op::kSet || batch.set_mode != SetMode::kIfAbsent) return;
  const std::uint64_t now = now_ns();
  if (std::ranges::any_of(batch.items,
                          [&](const Item& item) { return failed_keys_.contains(item.key, now); })) {
    batch.set_mode = SetMode::kReplace;
  }
}

void Session::note_outcomes(const Batch& batch) noexcept {
  if (batch.op == Op::kGet && options_.misses_wrong_sizes) {
    for (const Item& item : batch.items) {
      if (item.outcome != Outcome::kFailed) continue;
      if (item.error.code() != ErrorCode::kSizeMismatch) continue;
      failed_keys_.insert_until(item.key, now_ns() + options_.miss_after_failure_ns);
    }
  }
  if (failed_keys_.size() == 0) return;
  const std::uint64_t now = now_ns();
  for (Item& item : batch.items) {
    if (batch.op == Op::kSet && item.outcome == Outcome::kDone) failed_keys_.erase(item.key);
    if (batch.op == Op::kExists && item.outcome == Outcome::kHit &&
        failed_keys_.contains(item.key, now)) {
      item.outcome = Outcome::kMiss;
    }
  }
}

// --- Waiting for room ---------------------------------------------------------------------------

Status Session::hand_over(Operation& operation) noexcept {
  const std::size_t index = index_of(operation.batch.op);
  operation.where_ = Operation::Where::kConnector;
  ++accepted_[index];
  mutex_.unlock();  // A connector may copy values in here.
  const Status status = connector_->submit(operation.batch);
  mutex_.lock();
  if (!status) --accepted_[index];
  return status;
}

void Session::start_queued() noexcept {
  starts_again_ = true;
  if (is_starting_) return;  // The thread that is at it looks again.
  is_starting_ = true;
  while (starts_again_) {
    starts_again_ = false;
    for (std::size_t i = 0; i < queues_.size(); ++i) start_queue(queues_[i], accepted_[i]);
  }
  is_starting_ = false;
}

void Session::start_queue(Queue& queue, std::uint64_t& accepted) noexcept {
  while (queue.head != nullptr) {
    Operation& operation = *queue.pop_front();
    const Status status = hand_over(operation);
    if (status) continue;
    const bool has_no_room = status.error().code() == ErrorCode::kResourceExhausted;
    if (has_no_room && accepted > 0) {
      operation.where_ = Operation::Where::kQueue;
      queue.push_front(operation);
      return;
    }
    finish_as(operation, status.error());
    changed_.notify_all();
  }
}

void Session::fail_queued(std::uint64_t due_ns, const Error& error) noexcept {
  for (Queue& queue : queues_) {
    Queue kept;
    while (queue.head != nullptr) {
      Operation& operation = *queue.pop_front();
      if (operation.batch.deadline_ns <= due_ns) {
        finish_as(operation, error);
      } else {
        kept.push_back(operation);
      }
    }
    queue = kept;
  }
  changed_.notify_all();
}

std::uint64_t Session::next_queued_deadline() const noexcept {
  std::uint64_t earliest = kNever;
  for (const Queue& queue : queues_) {
    for (const Operation* at = queue.head; at != nullptr; at = at->behind_) {
      earliest = std::min(earliest, at->batch.deadline_ns);
    }
  }
  return earliest;
}

void Session::link(Operation& operation) noexcept {
  operation.previous_ = nullptr;
  operation.next_ = in_flight_;
  if (in_flight_ != nullptr) in_flight_->previous_ = &operation;
  in_flight_ = &operation;
}

void Session::unlink(Operation& operation) noexcept {
  (operation.previous_ != nullptr ? operation.previous_->next_ : in_flight_) = operation.next_;
  if (operation.next_ != nullptr) operation.next_->previous_ = operation.previous_;
  operation.previous_ = operation.next_ = nullptr;
}

// --- The end ------------------------------------------------------------------------------------

bool Session::wait_until_empty(std::uint64_t until_ns) noexcept {
  while (in_flight_ != nullptr) {
    const std::uint64_t now = now_ns();
    if (now >= until_ns) return false;
    if (may_lead()) {
      lead(until_ns);
    } else {
      changed_.wait_for(mutex_, until_ns - now);
    }
  }
  return true;
}

Status Session::close(std::uint64_t finish_by_ns, std::uint64_t deadline_ns) noexcept {
  const Error stuck_error{ErrorCode::kUnavailable, "session",
                          "the kernel or a peer still has what was asked of it"};
  {
    const MutexLock lock{mutex_};
    is_closing_.store(true, std::memory_order_release);
    while (is_stopping_) {
      const std::uint64_t now = now_ns();
      if (now >= deadline_ns) return stuck_error;
      changed_.wait_for(mutex_, deadline_ns - now);
    }
    if (is_closed_) return {};
    is_stopping_ = true;
    wait_until_empty(std::min(finish_by_ns, deadline_ns));
    fail_queued(kNever, closed_error());
  }
  const Status stopped = connector_->stop(deadline_ns);
  {
    const MutexLock lock{mutex_};
    const std::uint64_t patience_ns = stopped ? now_ns() + kReapPatienceNs : deadline_ns;
    const bool is_empty = wait_until_empty(patience_ns);
    is_stopping_ = false;
    changed_.notify_all();
    if (!stopped) return stopped;
    if (!is_empty) return stuck_error;
    is_closed_ = true;
    is_thread_wanted_ = false;
  }
  wake_.signal();
  thread_.join();
  say_closed();
  // For pollers: nothing more will come, and they are to look.
  const std::uint64_t one = 1;
  while (::write(finished_.event_fd(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
  return {};
}

std::string Session::stuck() const {
  struct Sum {
    std::uint64_t batches = 0, keys = 0, bytes = 0;
  };
  std::array<Sum, kBatchClassCount> sums{};
  {
    const MutexLock lock{mutex_};
    for (const Operation* at = in_flight_; at != nullptr; at = at->next_) {
      Sum& sum = sums[index_of(at->batch.op)];
      ++sum.batches;
      sum.keys += at->items.size();
      sum.bytes += BatchLimits::bytes_of_batch(at->batch);
    }
  }
  std::string text;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i].batches == 0) continue;
    if (!text.empty()) text += ", ";
    std::string one = name_of(static_cast<BatchClass>(i));
    one.pop_back();  // It is a plural.
    text += format_count(sums[i].batches, one) + " of " + format_count(sums[i].keys, "key") +
            " and " + format_bytes_exact(sums[i].bytes);
  }
  return text;
}

}  // namespace larder::doors
