#include "larder/server/admin_http.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/version.h"
#include "larder/server/admin_access.h"
#include "larder/server/cache_http.h"
#include "larder/server/config_json.h"
#include "larder/server/endpoint.h"
#include "larder/server/http_routes.h"
#include "larder/server/http_server.h"
#include "larder/server/metrics_text.h"
#include "larder/server/page/page.h"
#include "larder/server/quota_http.h"
#include "larder/server/status_json.h"

namespace larder::server {
namespace {

using json = nlohmann::ordered_json;

constexpr std::uint64_t kLoopAnswersNs = 1'000'000'000;
/// Threads: all that may wait for the loop or for a disk, and one that never does.
constexpr std::size_t kThreads =
    AdminMailbox::kAskersMax + Quotas::kChangersMax + TierScans::kCallersMax + 1;

std::string text_of(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

HttpReply reply_of(const json& value) {
  return {.body = text_of(value)};
}

}  // namespace

class AdminHttp::Impl {
 public:
  using Servers = std::vector<std::unique_ptr<HttpServer>>;

  Impl(const ServerOptions& options, Servers servers, std::optional<AdminAccess> access,
       StatusBoard& board, std::optional<CacheHttp> cache, std::optional<QuotaHttp> quotas)
      : options_(options),
        access_(std::move(access)),
        board_(board),
        cache_(std::move(cache)),
        quotas_(std::move(quotas)),
        routes_(access_ ? &*access_ : nullptr),
        servers_(std::move(servers)) {}

  void add_metrics();
  void add_admin(const std::string& pool_name);
  SetupStatus start();
  std::uint16_t port() const noexcept { return servers_.front()->port(); }

 private:
  using Answer = HttpReply (Impl::*)(const HttpRequest&);

  void add(const char* method, const char* path, HttpNeeds needs, Answer answer);
  StatusBoard::Reading ask();
  static HttpReply front(const HttpRequest& request);
  static HttpReply show_page(const HttpRequest& request);
  HttpReply healthcheck(const HttpRequest& request);
  HttpReply ready(const HttpRequest& request);
  /// The loop's state, as JSON.
  template <class ToJson>
  HttpReply show(ToJson to_json);
  HttpReply status(const HttpRequest& request);
  HttpReply degraded(const HttpRequest& request);
  HttpReply metrics(const HttpRequest& request);
  HttpReply adapters(const HttpRequest& request);
  static HttpReply log_level(const HttpRequest& request);
  static HttpReply change_log_level(const HttpRequest& request);

  const ServerOptions options_;  ///< With the bound ports.
  const std::optional<AdminAccess> access_;
  StatusBoard& board_;
  std::optional<CacheHttp> cache_;  ///< Nothing, as the next: it takes no commands.
  std::optional<QuotaHttp> quotas_;
  HttpRoutes routes_;
  Servers servers_;  ///< The last: their threads use the others.
};

// --- Routes -------------------------------------------------------------------------------------

void AdminHttp::Impl::add(const char* method, const char* path, HttpNeeds needs, Answer answer) {
  routes_.add(
      {.method = method,
       .path = path,
       .needs = needs,
       .answer = [this, answer](const HttpRequest& request) { return (this->*answer)(request); }});
}

SetupStatus AdminHttp::Impl::start() {
  for (const auto& server : servers_) LARDER_TRY(server->start(routes_));
  return {};
}

void AdminHttp::Impl::add_metrics() {
  add("GET", "/metrics", HttpNeeds::kNothing, &Impl::metrics);
}

void AdminHttp::Impl::add_admin(const std::string& pool_name) {
  const std::string own_version = text_of("larder-" + std::string{version()});
  routes_.add({.method = "GET", .path = "/", .needs = HttpNeeds::kNothing, .answer = &Impl::front});
  routes_.add(
      {.method = "GET", .path = "/page", .needs = HttpNeeds::kNothing, .answer = &Impl::show_page});
  add("GET", "/healthcheck", HttpNeeds::kNothing, &Impl::healthcheck);
  routes_.add_fixed("/live", text_of({{"status", "alive"}}));
  add("GET", "/ready", HttpNeeds::kNothing, &Impl::ready);
  add("GET", "/degraded", HttpNeeds::kNothing, &Impl::degraded);
  add("GET", "/status", HttpNeeds::kNothing, &Impl::status);
  routes_.add_fixed("/config", text_of(config_json(options_, pool_name), 2));
  add("GET", "/config/adapters", HttpNeeds::kNothing, &Impl::adapters);
  add_metrics();
  routes_.add_fixed("/version", own_version);
  routes_.add_fixed("/lmc_version", own_version);  // larder's, because this is not LMCache.
  routes_.add_fixed("/commit_id", text_of(""));
  routes_.add({.method = "GET",
               .path = "/loglevel",
               .needs = HttpNeeds::kNothing,
               .answer = &Impl::log_level});
  routes_.add({.method = "PUT",
               .path = "/loglevel",
               .needs = HttpNeeds::kToken,
               .answer = &Impl::change_log_level});
  cache_->add_to(routes_);
  quotas_->add_to(routes_);
}

// --- How it stands ------------------------------------------------------------------------------

/// The page for a browser; the clients of LMCache get its JSON.
HttpReply AdminHttp::Impl::front(const HttpRequest& request) {
  HttpReply reply = wants_page(request.accept)
                        ? show_page(request)
                        : reply_of({{"status", "ok"}, {"service", "larder HTTP API"}});
  reply.headers.emplace_back("Vary", "Accept");
  return reply;
}

HttpReply AdminHttp::Impl::show_page(const HttpRequest& /*request*/) {
  return {
      .body = page().html, .content_type = "text/html; charset=utf-8", .headers = page().headers};
}

StatusBoard::Reading AdminHttp::Impl::ask() {
  return board_.ask(RealClock::instance().now_ns() + kLoopAnswersNs);
}

HttpReply AdminHttp::Impl::healthcheck(const HttpRequest& /*request*/) {
  if (ask().is_fresh) return reply_of({{"status", "healthy"}});
  HttpReply reply =
      reply_of({{"status", "unhealthy"},
                {"reason", "the thread that answers clients did not run for a second"}});
  reply.status = 503;
  return reply;
}

/// Whether requests of clients would be served: the loop answers, and is not ending.
HttpReply AdminHttp::Impl::ready(const HttpRequest& /*request*/) {
  const StatusBoard::Reading reading = ask();
  const char* reason = nullptr;
  if (reading.status == nullptr) {
    reason = "the server is starting";
  } else if (!reading.is_fresh) {
    reason = "the thread that answers clients did not run for a second";
  } else if (reading.status->is_draining) {
    reason = "the server is ending and takes no new work";
  }
  if (reason == nullptr) return reply_of({{"status", "ready"}});
  HttpReply reply = reply_of({{"status", "not ready"}, {"reason", reason}});
  reply.status = 503;
  return reply;
}

template <class ToJson>
HttpReply AdminHttp::Impl::show(ToJson to_json) {
  const StatusBoard::Reading reading = ask();
  if (reading.status == nullptr) {
    return refusal(503, "the server is starting; ask again in a moment");
  }
  return reply_of(to_json(*reading.status, reading.is_fresh));
}

HttpReply AdminHttp::Impl::status(const HttpRequest& /*request*/) {
  return show([this](const ServerStatus& status, bool is_fresh) {
    return status_json(status, options_, is_fresh);
  });
}

HttpReply AdminHttp::Impl::degraded(const HttpRequest& /*request*/) {
  return show(degraded_json);
}

HttpReply AdminHttp::Impl::metrics(const HttpRequest& /*request*/) {
  const StatusBoard::Reading reading = ask();
  if (reading.status == nullptr) {
    return refusal(503, "the server is starting; ask again in a moment");
  }
  return {.body = metrics_text({.status = *reading.status,
                                .instance_id = options_.instance_id,
                                .silent_ns = reading.silent_ns,
                                .has_lmcache_names = options_.has_lmcache_metrics}),
          .content_type = "text/plain; version=0.0.4; charset=utf-8"};
}

HttpReply AdminHttp::Impl::adapters(const HttpRequest& /*request*/) {
  return show([](const ServerStatus& status, bool /*is_fresh*/) { return adapters_json(status); });
}

HttpReply AdminHttp::Impl::log_level(const HttpRequest& request) {
  if (request.parameter("level")) {
    return refusal(400, "GET only reads; to change the level use PUT /loglevel?level=info");
  }
  return {.body = "larder: " + std::string{name_of(log_level_now())} + "\n",
          .content_type = "text/plain; charset=utf-8"};
}

HttpReply AdminHttp::Impl::change_log_level(const HttpRequest& request) {
  const std::string name = request.parameter("level").value_or("");
  const auto level = parse_log_level(name);
  if (!level) {
    return refusal(400, "level: '" + printable(name) +
                            "' is not a level; one of debug, info, warning, error, off, as in PUT "
                            "/loglevel?level=info");
  }
  set_log_level(*level);
  return log_level({});
}

// --- The class itself ---------------------------------------------------------------------------

AdminHttp::AdminHttp(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
AdminHttp::~AdminHttp() = default;

SetupResult<std::unique_ptr<AdminHttp>> AdminHttp::open(const ServerOptions& options,
                                                        const std::string& pool_name, Parts parts) {
  ServerOptions bound = options;
  Impl::Servers servers;
  TcpEndpoint endpoint{.address = "127.0.0.1"};  // No server name: a unix socket needs no token.
  if (options.has_http) {
    LARDER_ASSIGN(auto server,
                  HttpServer::open(
                      {.host = options.http_host, .port = options.http_port, .threads = kThreads}));
    endpoint = {server->address(), server->port()};
    bound.http_port = server->port();
    servers.push_back(std::move(server));
  }
  LARDER_ASSIGN(auto access, AdminAccess::open(options, endpoint));
  if (!options.admin_socket.empty()) {
    LARDER_ASSIGN(auto server,
                  HttpServer::open({.unix_path = options.admin_socket, .threads = kThreads}));
    servers.push_back(std::move(server));
  }
  auto impl = std::make_unique<Impl>(bound, std::move(servers), std::move(access), parts.board,
                                     CacheHttp{parts.board, parts.mailbox, parts.scans},
                                     QuotaHttp{parts.quotas, parts.mailbox, parts.on_quotas});
  impl->add_admin(pool_name);
  LARDER_TRY(impl->start());
  return std::unique_ptr<AdminHttp>{new AdminHttp{std::move(impl)}};
}

SetupResult<std::unique_ptr<AdminHttp>> AdminHttp::open_metrics(const ServerOptions& options,
                                                                StatusBoard& board) {
  LARDER_ASSIGN(auto server, HttpServer::open({.host = options.metrics_host,
                                               .port = *options.metrics_port,
                                               .host_option = "--metrics-host",
                                               .port_option = "--metrics-port",
                                               .is_any_name_own = true}));
  Impl::Servers servers;
  servers.push_back(std::move(server));
  auto impl = std::make_unique<Impl>(options, std::move(servers), std::nullopt, board, std::nullopt,
                                     std::nullopt);
  impl->add_metrics();
  LARDER_TRY(impl->start());
  return std::unique_ptr<AdminHttp>{new AdminHttp{std::move(impl)}};
}

std::uint16_t AdminHttp::port() const noexcept {
  return impl_->port();
}

}  // namespace larder::server
