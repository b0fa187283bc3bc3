#include "larder/connectors/resp/resp_connector.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <span>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/event_fd.h"
#include "larder/base/thread.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/completion_queue.h"
#include "larder/connector/outcome_window.h"
#include "larder/connectors/resp/node.h"
#include "larder/connectors/resp/options.h"

namespace larder::resp {
namespace {

constexpr std::uint32_t kSlicesMax = 1024;
constexpr std::uint64_t kWakeData = std::uint64_t{1} << 63;
constexpr std::uint64_t kAnsweredData = kWakeData + 1;
constexpr std::uint64_t kLongestWaitNs = 60'000'000'000;
/// Keys that are known as stored by this process: more where a capacity depends on it.
constexpr std::size_t kKeysCounted = std::size_t{1} << 20;
constexpr std::size_t kKeysCountedForCapacity = std::size_t{1} << 24;

/// What a report says of its keys and bytes.
constexpr const char* kChecked = "what the server lost is found by asking it for the keys";
constexpr const char* kUpperBound = "at most this: what the server lost counts until it is missed";

/// A node on a reactor thread of its own, and the way of batches there and back.
///
/// Threads: as the contract says; node_ belongs to the reactor once it runs. Cost of submit(): one
/// short lock, and a system call only when the reactor sleeps.
class RespConnector final : public Connector, private BatchSink {
 public:
  explicit RespConnector(RespOptions options)
      : options_(std::move(options)),
        limits_(options_.limits),
        view_(options_.capacity_bytes,
              options_.capacity_bytes > 0 ? kKeysCountedForCapacity : kKeysCounted) {}
  ~RespConnector() override {
    stop(kNever).ignore("kNever waits to the end");
    LARDER_CHECK(completions_.empty());
  }
  RespConnector(const RespConnector&) = delete;
  RespConnector& operator=(const RespConnector&) = delete;

  SetupStatus open() {
    auto answered = EventFd::create();
    if (!answered)
      return SetupError{answered.error().code(), "resp: " + answered.error().to_string()};
    answered_ = std::make_shared<EventFd>(std::move(*answered));
    LARDER_ASSIGN(secrets_, SecretFiles::open(options_, answered_));
    const Status started = start();
    if (started) return {};
    return SetupError{started.error().code(), "resp: " + started.error().to_string()};
  }

  Status submit(Batch& batch) noexcept override LARDER_EXCLUDES(mutex_) {
    LARDER_TRY(check_batch(batch));
    const std::uint64_t bytes = BatchLimits::bytes_of_batch(batch);
    LARDER_TRY(limits_.admit(class_of(batch.op), bytes));
    bool must_wake = false;
    {
      const MutexLock lock{mutex_};
      if (!is_stopped_) {
        batch.connector_pending.store(0, std::memory_order_relaxed);
        batch.connector_next = nullptr;
        (last_ == nullptr ? first_ : last_->connector_next) = &batch;
        last_ = &batch;
        must_wake = std::exchange(is_asleep_, false);
      }
      if (is_stopped_) {
        limits_.release(class_of(batch.op), bytes);
        return Error{ErrorCode::kCancelled, "resp", "the connector was stopped"};
      }
    }
    if (must_wake) wake_->signal();
    return {};
  }

  std::size_t reap(std::span<Batch*> done) noexcept override {
    const std::size_t count = completions_.reap(done);
    for (const Batch* batch : done.first(count)) {
      limits_.release(class_of(batch->op), BatchLimits::bytes_of_batch(*batch));
    }
    return count;
  }
  int event_fd() const noexcept override { return completions_.event_fd(); }

  void cancel(Batch& batch) noexcept override {
    batch.connector_pending.fetch_or(Node::kCancelBit, std::memory_order_acq_rel);
    has_cancels_.store(true, std::memory_order_release);
    wake_->signal();
  }

  bool probe(std::span<Item> /*items*/) const noexcept override { return false; }

  Capabilities capabilities() const noexcept override {
    Capabilities capabilities;
    capabilities.slices_max = kSlicesMax;
    capabilities.value_bytes_max = options_.value_bytes_max;
    capabilities.integrity = Integrity::kNone;
    capabilities.locality = Locality::kRemote;
    capabilities.survives_restart = true;
    return capabilities;
  }

  Report report() const override;

  Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) override {
    return Error{ErrorCode::kUnimplemented, "resp", "keys are not listed by this connector"};
  }

  Status stop(std::uint64_t deadline_ns) noexcept override LARDER_EXCLUDES(mutex_) {
    {
      const MutexLock lock{mutex_};
      is_stopped_ = true;
      is_asleep_ = false;
    }
    if (!thread_.joinable()) return {};
    wake_->signal();
    {
      const MutexLock lock{mutex_};
      while (!has_ended_) {
        const std::uint64_t now_ns = RealClock::instance().now_ns();
        if (now_ns >= deadline_ns) {
          return Error{ErrorCode::kUnavailable, "resp", "the reactor has not ended in time"};
        }
        ended_.wait_for(mutex_, deadline_ns - now_ns);
      }
    }
    thread_.join();
    return {};
  }

 private:
  Status start() {
    epoll_ = UniqueFd{::epoll_create1(EPOLL_CLOEXEC)};
    if (!epoll_) return Error::from_errno(errno, "resp", "creating an epoll instance");
    LARDER_ASSIGN(EventFd wake, EventFd::create());
    wake_ = std::make_unique<EventFd>(std::move(wake));
    for (const auto& [fd, data] :
         {std::pair{wake_->get(), kWakeData}, std::pair{answered_->get(), kAnsweredData}}) {
      epoll_event watched{};
      watched.events = EPOLLIN;
      watched.data.u64 = data;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &watched) != 0) {
        return Error::from_errno(errno, "resp", "waiting for an eventfd");
      }
    }
    resolver_ = std::make_unique<Resolver>(options_.endpoint, answered_);
    node_ = std::make_unique<Node>(options_, *resolver_, *secrets_, view_,
                                   static_cast<BatchSink&>(*this), epoll_.get());
    LARDER_ASSIGN(thread_, Thread::start("larder-resp", [this] { run(); }));
    return {};
  }

  void on_batch(Batch& batch) noexcept override {
    outcomes_.note(batch);
    completions_.push(batch);
  }

  /// False when the connector was stopped: what there is was taken, and no more comes.
  bool take_inbox(std::uint64_t now_ns) LARDER_EXCLUDES(mutex_) {
    Batch* batch = nullptr;
    bool is_stopped = false;
    {
      const MutexLock lock{mutex_};
      batch = std::exchange(first_, nullptr);
      last_ = nullptr;
      is_stopped = is_stopped_;
    }
    while (batch != nullptr) {
      Batch* const next = batch->connector_next;
      node_->accept(*batch, now_ns);
      batch = next;
    }
    return !is_stopped;
  }

  void run() noexcept {
    while (take_inbox(now_ns())) {
      if (has_cancels_.exchange(false, std::memory_order_acquire)) node_->on_cancel(now_ns());
      node_->turn(now_ns());
      wait();
    }
    node_->close(now_ns());
    const MutexLock lock{mutex_};
    has_ended_ = true;
    ended_.notify_all();
  }

  void wait() noexcept LARDER_EXCLUDES(mutex_) {
    std::uint64_t next_ns = node_->next_time_ns();
    {
      const MutexLock lock{mutex_};
      if (first_ != nullptr || is_stopped_) next_ns = 0;
      is_asleep_ = next_ns != 0;
    }
    const std::uint64_t now = now_ns();
    const std::uint64_t wait_ns = next_ns > now ? std::min(next_ns - now, kLongestWaitNs) : 0;
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>((wait_ns + 999'999) / 1'000'000));
    {
      const MutexLock lock{mutex_};
      is_asleep_ = false;
    }
    const auto ready = std::span{events}.first(static_cast<std::size_t>(std::max(count, 0)));
    // Lookups first: what the others received is worked off in pieces.
    std::ranges::partition(
        ready, [](const epoll_event& event) { return Node::is_of_lookups(event.data.u64); });
    for (const epoll_event& event : ready) {
      if (event.data.u64 == kWakeData) {
        wake_->drain();
      } else if (event.data.u64 == kAnsweredData) {
        answered_->drain();
        node_->on_resolved(now_ns());
      } else {
        node_->on_io(event.data.u64, event.events, now_ns());
      }
    }
  }

  static std::uint64_t now_ns() noexcept { return RealClock::instance().now_ns(); }

  const RespOptions options_;
  BatchLimits limits_;
  OutcomeWindow outcomes_;
  CompletionQueue completions_;
  NodeView view_;
  UniqueFd epoll_;
  std::unique_ptr<EventFd> wake_;
  std::shared_ptr<EventFd> answered_;  ///< With the threads of Asked, which may outlive this.
  std::unique_ptr<SecretFiles> secrets_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<Node> node_;
  std::atomic<bool> has_cancels_ = false;

  Mutex mutex_;
  CondVar ended_;
  Batch* first_ LARDER_GUARDED_BY(mutex_) = nullptr;  ///< Submitted, through connector_next.
  Batch* last_ LARDER_GUARDED_BY(mutex_) = nullptr;
  bool is_asleep_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_stopped_ LARDER_GUARDED_BY(mutex_) = false;
  bool has_ended_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;  // Last: it uses the others.
};

Report RespConnector::report() const {
  Report report;
  report.type = "resp";
  report.where = options_.where();
  report.integrity = Integrity::kNone;
  report.locality = Locality::kRemote;
  report.bytes_used = view_.stored.bytes();
  report.capacity_bytes = options_.capacity_bytes;
  report.keys = view_.stored.keys();
  const char* const transport = options_.tls                     ? "tls"
                                : options_.endpoint.path.empty() ? "tcp"
                                                                 : "unix";
  report.properties = {{"transport", transport},
                       {"accounting", "stored_by_me"},
                       {"accounting_worth", view_.stored.keeps_keys() ? kChecked : kUpperBound},
                       {"connections", std::to_string(options_.connections + 1)}};
  if (!options_.prefix.empty()) report.properties.push_back({"prefix", options_.prefix});
  view_.append_report(report);
  secrets_->append_report(report);
  limits_.append_counters(report.counters);
  outcomes_.append_report(report);
  return report;
}

}  // namespace

SetupResult<std::unique_ptr<Connector>> open_connector(RespOptions options) {
  auto connector = std::make_unique<RespConnector>(std::move(options));
  LARDER_TRY(connector->open());
  return std::unique_ptr<Connector>{std::move(connector)};
}

}  // namespace larder::resp
