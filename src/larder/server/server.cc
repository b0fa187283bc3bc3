#include "larder/server/server.h"

#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/base/service_manager.h"
#include "larder/base/size_text.h"
#include "larder/server/admin_http.h"
#include "larder/server/admin_mailbox.h"
#include "larder/server/copy/cpu_copy_backend.h"
#include "larder/server/l2_connectors.h"
#include "larder/server/l2_counts.h"
#include "larder/server/pool.h"
#include "larder/server/pool_guard.h"
#include "larder/server/quotas.h"
#include "larder/server/router.h"
#include "larder/server/server_loop.h"
#include "larder/server/service.h"
#include "larder/server/status_board.h"
#include "larder/server/tier_scans.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kCancelledNs = 5'000'000'000;  ///< Time for cancelled work to come back.
constexpr std::uint64_t kStopNs = 10'000'000'000;      ///< For connectors.
/// Time beside --drain-seconds that the end of a server may take (Server::end()).
constexpr std::uint64_t kEndNs = 2 * (kCancelledNs + kStopNs);
constexpr rlim_t kDescriptorsWanted = rlim_t{1} << 20;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

/// Every connection is a descriptor, and at 1,024 of them libzmq would turn clients away.
void raise_descriptor_limit() noexcept {
  ::rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = std::min(limit.rlim_max, kDescriptorsWanted);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Values of a single run of a server.
SetupResult<ServerOptions> with_drawn_values(ServerOptions options) {
  std::array<std::uint64_t, 3> drawn{};
  if (::getrandom(drawn.data(), sizeof drawn, 0) != ::ssize_t{sizeof drawn}) {
    return SetupError{ErrorCode::kUnavailable, "the kernel gives no random numbers (getrandom)"};
  }
  options.hash_seed = drawn[0];
  options.incarnation = static_cast<std::uint64_t>(
      std::chrono::nanoseconds{std::chrono::system_clock::now().time_since_epoch()}.count());
  if (options.instance_id.empty()) {
    std::array<char, 33> text{};
    std::snprintf(text.data(), text.size(), "%016lx%016lx", drawn[1], drawn[2]);
    options.instance_id = text.data();
  }
  // The port is not known before the pool is; two such servers must not have one name.
  if (options.port == 0 && options.shm_name.empty()) {
    options.shm_name = "larder_pid_" + std::to_string(::getpid());
  }
  return options;
}

/// A service manager that gets no message assumes that the server never started, and ends it.
void tell_service_manager(const std::string& state) {
  const auto told = notify_service_manager(state);
  if (!told) log(LogLevel::kWarning, "server", told.error().text);
}

/// The drain may take longer than the manager's own time-out.
std::string stopping_state(const ServerOptions& options) {
  return "STOPPING=1\nSTATUS=storing what L2 does not have yet\nEXTEND_TIMEOUT_USEC=" +
         std::to_string((options.drain_ns + kEndNs) / 1000);
}

/// The parts of a server, in the order in which they are opened.
class Server {
 public:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  SetupStatus open(const Registry& registry, int wake_fd);
  ServerAddress address() const;
  void run(const std::atomic<bool>& stop) { loop_->run(stop); }
  DrainReport end();

 private:
  SetupStatus open_memory();
  SetupStatus open_copies();
  SetupStatus open_sockets();
  void leave_memory() noexcept;

  ServerOptions options_;  ///< With the bound port.
  std::optional<PoolGuard> guard_;
  std::unique_ptr<cache::Arena> arena_;
  std::unique_ptr<CpuCopyBackend> copies_;
  std::unique_ptr<L2Connectors> connectors_;
  std::unique_ptr<TierScans> scans_;
  std::unique_ptr<Quotas> quotas_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<AdminMailbox> mailbox_;
  std::unique_ptr<L2Counts> counts_;
  std::unique_ptr<AdminHttp> http_;
  std::unique_ptr<AdminHttp> metrics_http_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<ServerLoop> loop_;
};

SetupStatus Server::open(const Registry& registry, int wake_fd) {
  LARDER_ASSIGN(quotas_, Quotas::open(options_));
  LARDER_TRY(open_memory());
  LARDER_TRY(open_copies());
  LARDER_ASSIGN(connectors_, L2Connectors::open(options_, registry));
  LARDER_ASSIGN(scans_, TierScans::start(connectors_->all()));
  LARDER_TRY(open_sockets());
  service_ = std::make_unique<Service>(options_, *arena_, connectors_->take_tiers(), *router_,
                                       copies_.get(), scans_.get());
  for (const auto& [salt, setting] : quotas_->all()) {
    service_->set_quota(salt, quotas_->quota_of(setting));
  }
  auto loop = ServerLoop::create({.router = *router_,
                                  .service = *service_,
                                  .board = *board_,
                                  .mailbox = *mailbox_,
                                  .connectors = *connectors_,
                                  .copies = *copies_,
                                  .scans = *scans_},
                                 wake_fd);
  if (!loop) {
    if (!connectors_->stop(now_ns() + kStopNs)) leave_memory();
    return loop.error();
  }
  loop_ = *std::move(loop);
  return {};
}

SetupStatus Server::open_memory() {
  if (options_.has_pool) {
    LARDER_ASSIGN(PoolGuard guard, PoolGuard::start());
    guard_.emplace(std::move(guard));
  }
  raise_descriptor_limit();
  LARDER_ASSIGN(arena_, open_l1(options_));
  if (arena_->report().has_replaced_stale) {
    log(LogLevel::kInfo, "server", "replaced the pool of a server that has ended");
  }
  if (!guard_) return {};
  const Status watched = guard_->watch(std::string{kPoolDirectory} + "/" + arena_->name());
  if (!watched) return SetupError{watched.error().code(), watched.error().to_string()};
  return {};
}

SetupStatus Server::open_copies() {
  LARDER_ASSIGN(copies_, CpuCopyBackend::create({.threads = options_.copy_threads}));
  const Status prepared =
      copies_->prepare_arena({arena_->base(), static_cast<std::size_t>(arena_->capacity_bytes())});
  if (!prepared) return SetupError{prepared.error().code(), prepared.error().to_string()};
  return {};
}

SetupStatus Server::open_sockets() {
  auto board = StatusBoard::create();
  if (!board) return SetupError{board.error().code(), board.error().to_string()};
  board_ = *std::move(board);
  auto mailbox = AdminMailbox::create();
  if (!mailbox) return SetupError{mailbox.error().code(), mailbox.error().to_string()};
  mailbox_ = *std::move(mailbox);
  LARDER_ASSIGN(
      router_,
      Router::open({.host = options_.host, .port = options_.port, .ipc_path = options_.ipc_path}));
  options_.port = router_->port();
  if (options_.metrics_port) {
    LARDER_ASSIGN(metrics_http_, AdminHttp::open_metrics(options_, *board_));
    options_.metrics_port = metrics_http_->port();
  }
  LARDER_ASSIGN(counts_, L2Counts::start(*scans_, connectors_->size(), *quotas_, *mailbox_));
  if (!options_.has_http && options_.admin_socket.empty()) return {};
  LARDER_ASSIGN(http_, AdminHttp::open(options_, arena_->name(),
                                       {.board = *board_,
                                        .mailbox = *mailbox_,
                                        .scans = *scans_,
                                        .quotas = *quotas_,
                                        .on_quotas = [this] { counts_->wake(); }}));
  return {};
}

ServerAddress Server::address() const {
  return {.port = router_->port(),
          .http_port = http_ == nullptr ? std::uint16_t{0} : http_->port(),
          .metrics_port = metrics_http_ == nullptr ? std::uint16_t{0} : metrics_http_->port(),
          .pool = arena_->name()};
}

DrainReport Server::end() {
  const std::uint64_t deadline_ns = now_ns() + options_.drain_ns;
  bool is_empty = loop_->drain(deadline_ns, deadline_ns + kCancelledNs);
  const cache::EngineStats left = loop_->status().engine;
  const bool has_copies = !copies_->stop(now_ns() + kStopNs);
  mailbox_->close();  // Nothing takes entries from it any more.
  const bool has_scan = !scans_->stop(now_ns() + kStopNs);
  const bool is_stopped = connectors_->stop(now_ns() + kStopNs) && !has_copies && !has_scan;
  // A stopped connector has returned everything; it only has to be taken.
  if (is_stopped && !is_empty) is_empty = loop_->drain(0, now_ns() + kCancelledNs);
  if (!is_stopped || !is_empty) leave_memory();
  return {.cells_lost = left.cells_wanted, .bytes_lost = left.wanted_bytes};
}

/// Held by a device or peer that may still write to it.
void Server::leave_memory() noexcept {
  (void)service_.release();  // NOLINT(bugprone-unused-return-value): the connectors, too.
  (void)copies_.release();   // NOLINT(bugprone-unused-return-value)
  (void)arena_.release();    // NOLINT(bugprone-unused-return-value)
  (void)scans_.release();    // NOLINT(bugprone-unused-return-value): its thread may be in one.
  if (guard_) guard_->leave();
}

Server::~Server() {
  if (board_ != nullptr) board_->close();
  if (mailbox_ != nullptr) mailbox_->close();
  // Before the connectors end.
  if (scans_ != nullptr) scans_->stop(now_ns() + kStopNs);
}

}  // namespace

SetupResult<DrainReport> run_server(const ServerOptions& options, const Registry& registry,
                                    const std::atomic<bool>& stop, int wake_fd,
                                    const std::function<void(const ServerAddress&)>& on_listening) {
  LARDER_ASSIGN(ServerOptions drawn, with_drawn_values(options));
  Server server{std::move(drawn)};
  LARDER_TRY(server.open(registry, wake_fd));
  on_listening(server.address());
  tell_service_manager("READY=1\nSTATUS=listening on port " +
                       std::to_string(server.address().port));
  server.run(stop);
  tell_service_manager(stopping_state(options));
  return server.end();
}

}  // namespace larder::server
