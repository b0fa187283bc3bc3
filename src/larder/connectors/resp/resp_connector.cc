#include "larder/connectors/resp/resp_connector.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <utility>

#include "larder/base/event_fd.h"
#include "larder/connector/intake.h"
#include "larder/connector/reactor.h"
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

/// The keys and bytes in a report.
constexpr const char* kChecked = "what the server lost is found by asking it for the keys";
constexpr const char* kUpperBound = "at most this: what the server lost counts until it is missed";

IntakeOptions intake_options(const RespOptions& options) {
  IntakeOptions made;
  made.name = "resp";
  made.lane_of = lane_of;
  made.limits = options.limits;
  made.value_bytes_max = options.value_bytes_max;
  made.slices_max = kSlicesMax;
  made.miss_after_failure_ns = options.miss_after_failure_ns;
  return made;
}

/// A node on a reactor's thread.
///
/// Threads: as the contract says; node_ belongs to the reactor once it runs.
class RespConnector final : public Connector, private Machine {
 public:
  explicit RespConnector(RespOptions options)
      : options_(std::move(options)),
        intake_(intake_options(options_), RealClock::instance()),
        view_(options_.capacity_bytes,
              options_.capacity_bytes > 0 ? kKeysCountedForCapacity : kKeysCounted),
        reactor_(*this, intake_, {.name = "larder-resp"}) {}
  ~RespConnector() override = default;
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

  Status submit(Batch& batch) noexcept override { return intake_.submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake_.reap(done); }
  int event_fd() const noexcept override { return intake_.event_fd(); }
  void cancel(Batch& batch) noexcept override { intake_.cancel(batch); }

  bool probe(std::span<Item> /*items*/) const noexcept override { return false; }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return intake_.load_ns(sizes);
  }

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

  Status stop(std::uint64_t deadline_ns) noexcept override { return reactor_.stop(deadline_ns); }

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
    node_ = std::make_unique<Node>(options_, *resolver_, *secrets_, view_, intake_, epoll_.get(),
                                   now_ns());
    return reactor_.start();
  }

  void turn() noexcept override { node_->turn(now_ns()); }
  std::uint64_t next_timer_ns() const noexcept override { return node_->next_time_ns(); }
  void wake() noexcept override { wake_->signal(); }
  void begin_stop() noexcept override { node_->close(now_ns()); }
  bool is_idle() const noexcept override { return node_->is_idle(); }
  void close() noexcept override {}

  void wait(std::uint64_t until_ns) noexcept override {
    const std::uint64_t now = now_ns();
    const std::uint64_t wait_ns = until_ns > now ? std::min(until_ns - now, kLongestWaitNs) : 0;
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>((wait_ns + 999'999) / 1'000'000));
    const auto ready = std::span{events}.first(static_cast<std::size_t>(std::max(count, 0)));
    // Lookups first: data of the other connections is handled in pieces.
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
  Intake intake_;
  NodeView view_;
  UniqueFd epoll_;
  std::unique_ptr<EventFd> wake_;
  std::shared_ptr<EventFd>
      answered_;  ///< Shared with the threads of Asked, which may outlive this object.
  std::unique_ptr<SecretFiles> secrets_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<Node> node_;
  Reactor reactor_;  // Last: its thread uses the others.
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
  intake_.append_report(report);
  return report;
}

}  // namespace

SetupResult<std::unique_ptr<Connector>> open_connector(RespOptions options) {
  auto connector = std::make_unique<RespConnector>(std::move(options));
  LARDER_TRY(connector->open());
  return std::unique_ptr<Connector>{std::move(connector)};
}

}  // namespace larder::resp
