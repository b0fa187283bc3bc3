#include "larder/doors/session.h"

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
#include "larder/connector/batch_limits.h"
#include "larder/connector/report_line.h"

namespace larder::doors {
namespace {

/// Collects batches that a stopped connector has already finished.
constexpr std::uint64_t kReapPatienceNs = 10'000'000'000;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

bool is_legal(std::span<const std::byte> key) noexcept {
  return !key.empty() && key.size() <= kKeyBytesMax;
}

Error closed_error() noexcept {
  return {ErrorCode::kCancelled, "session", "it was closed"};
}

}  // namespace

Session::Session(std::unique_ptr<Connector>&& connector, EventFd wake,
                 const SessionOptions& options)
    : options_(options), wake_(std::move(wake)), connector_(std::move(connector)) {}

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
  operation.batch.misses_wrong_sizes = options_.misses_wrong_sizes;
  const MutexLock lock{mutex_};
  if (is_closing_.load(std::memory_order_relaxed)) return closed_error();
  link(operation);
  operation.is_out_ = true;
  mutex_.unlock();  // A connector may copy values in here.
  const Status status = connector_->submit(operation.batch);
  mutex_.lock();
  if (!status) {
    unlink(operation);
    operation.is_out_ = false;
    refused_total_.fetch_add(1, std::memory_order_relaxed);
    return status;
  }
  // From here on it may be finished and freed. A batch that the connector has already finished is
  // taken here, without waking another thread.
  if (options_.has_thread && reap_ready() > 0) changed_.notify_all();
  return {};
}

bool Session::wait(Operation& operation, std::uint64_t until_ns) noexcept {
  const MutexLock lock{mutex_};
  while (operation.is_out_) {
    if (may_lead()) {
      lead(until_ns);
      if (!operation.is_out_) return true;
    }
    if (now_ns() >= until_ns) return false;
    if (!may_lead()) RealClock::instance().wait_until(changed_, mutex_, until_ns);
  }
  return true;
}

void Session::cancel(Operation& operation) noexcept {
  const MutexLock lock{mutex_};
  if (operation.is_out_) connector_->cancel(operation.batch);
}

bool Session::leave(Operation& operation) noexcept {
  const MutexLock lock{mutex_};
  if (!operation.is_out_) return false;
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
  // A batch gives each illegal key its own error.
  return std::ranges::all_of(items, [](const Item& item) { return is_legal(item.key); }) &&
         connector_->probe(items);
}

// --- What it says -------------------------------------------------------------------------------

Report Session::report() const {
  Report report = connector_->report();
  report.refused_by_door = refused_total_.load(std::memory_order_relaxed);
  return report;
}

// --- One thread reaps for all -------------------------------------------------------------------

void Session::lead(std::uint64_t until_ns) noexcept {
  has_leader_ = true;
  if (reap_ready() == 0) {
    mutex_.unlock();
    wait_readable(connector_->event_fd(), wake_.get(), until_ns);
    wake_.drain();
    mutex_.lock();
    reap_ready();
  }
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
      finish(*static_cast<Operation*>(batch->user_data));
    }
    if (count < done.size()) return total;
  }
}

void Session::finish(Operation& operation) noexcept {
  unlink(operation);
  operation.is_out_ = false;
  if (operation.is_taken) finished_.push(operation.batch);
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
    if (now_ns() >= until_ns) return false;
    if (may_lead()) {
      lead(until_ns);
    } else {
      RealClock::instance().wait_until(changed_, mutex_, until_ns);
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
      if (now_ns() >= deadline_ns) return stuck_error;
      RealClock::instance().wait_until(changed_, mutex_, deadline_ns);
    }
    if (is_closed_) return {};
    is_stopping_ = true;
    wait_until_empty(std::min(finish_by_ns, deadline_ns));
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
  // Wakes pollers: no more batches will come, and they must look.
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
      Sum& sum = sums[static_cast<std::size_t>(class_of(at->batch.op))];
      ++sum.batches;
      sum.keys += at->items.size();
      sum.bytes += BatchLimits::bytes_of_batch(at->batch);
    }
  }
  std::string text;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i].batches == 0) continue;
    if (!text.empty()) text += ", ";
    text += format_count(sums[i].batches, kBatchClassNames[i]) + " of " +
            format_count(sums[i].keys, "key") + " and " + format_bytes_exact(sums[i].bytes);
  }
  return text;
}

}  // namespace larder::doors
