#include "larder/server/admin_http.h"

#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <deque>
#include <functional>
#include <latch>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/base/version.h"
#include "larder/server/admin_access.h"
#include "larder/server/admin_json.h"
#include "larder/server/config_json.h"
#include "larder/server/endpoint.h"
#include "larder/server/http_guard.h"
#include "larder/server/metrics_text.h"
#include "larder/server/status_json.h"
#include "larder/server/tcp_socket.h"

namespace larder::server {
namespace {

using json = nlohmann::ordered_json;

constexpr std::uint64_t kLoopAnswersNs = 1'000'000'000;
/// LMCache's bench waits for five seconds, and its `kvcache clear` for ten.
constexpr std::uint64_t kCommandNs = 5'000'000'000;
constexpr time_t kPieceSeconds = 2;
constexpr int kBacklog = 128;
constexpr std::size_t kBodyBytesMax = 64 << 10;
constexpr const char* kJson = "application/json";

/// A few threads that run what is put in, with a bounded queue.
/// Threads: any put(); the rest from one.
class Tasks {
 public:
  Tasks() = default;
  ~Tasks() { end(); }
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;

  Status start() {
    constexpr std::size_t kThreads = 4;
    for (std::size_t i = 0; i < kThreads; ++i) {
      LARDER_ASSIGN(Thread thread, Thread::start("larder-http", [this] { run(); }));
      threads_.push_back(std::move(thread));
    }
    return {};
  }
  /// Waits while the queue is full.
  void put(std::function<void()> task) LARDER_EXCLUDES(mutex_) {
    constexpr std::size_t kWaitingMax = 64;
    const MutexLock lock{mutex_};
    while (waiting_.size() >= kWaitingMax) changed_.wait(mutex_);
    waiting_.push_back(std::move(task));
    changed_.notify_all();
  }
  /// Runs what is queued, and ends the threads.
  void end() LARDER_EXCLUDES(mutex_) {
    {
      const MutexLock lock{mutex_};
      is_ending_ = true;
      changed_.notify_all();
    }
    threads_.clear();
  }

 private:
  void run() LARDER_EXCLUDES(mutex_) {
    for (;;) {
      std::function<void()> task;
      {
        const MutexLock lock{mutex_};
        while (waiting_.empty() && !is_ending_) changed_.wait(mutex_);
        if (waiting_.empty()) return;
        task = std::move(waiting_.front());
        waiting_.pop_front();
        changed_.notify_all();
      }
      task();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> waiting_ LARDER_GUARDED_BY(mutex_);
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;
};

class TaskQueue final : public httplib::TaskQueue {
 public:
  explicit TaskQueue(Tasks& tasks) : tasks_(tasks) {}
  void enqueue(std::function<void()> task) override { tasks_.put(std::move(task)); }
  void shutdown() override { tasks_.end(); }

 private:
  Tasks& tasks_;
};

std::string text_of(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

/// LMCache's server has "detail"; its commands show "message" if there is one.
void refuse(httplib::Response& response, int code, const std::string& detail) {
  response.status = code;
  response.set_content(text_of(json{{"detail", detail}, {"message", detail}}), kJson);
}

std::string machine_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

/// What is served, where, and which options set that.
struct Site {
  std::string host;
  std::uint16_t port = 0;  ///< 0: any; later the one that was bound.
  const char* host_option = "--http-host";
  const char* port_option = "--http-port (or --no-http)";
  bool is_metrics_only = false;
};

int code_of(AdminError::Kind kind) noexcept {
  switch (kind) {
    case AdminError::Kind::kInvalid:
      return 400;
    case AdminError::Kind::kNotFound:
      return 404;
    case AdminError::Kind::kBusy:
      return 503;
    case AdminError::Kind::kFailed:
      return 500;
  }
  return 500;
}

}  // namespace

class AdminHttp::Impl {
 public:
  /// `mailbox` null: it takes no commands.
  Impl(Site site, const ServerOptions& options, const std::string& pool_name, StatusBoard& board,
       AdminMailbox* mailbox)
      : site_(std::move(site)),
        options_(options),
        pool_name_(pool_name),
        machine_(machine_name()),
        board_(board),
        mailbox_(mailbox) {}
  ~Impl() {
    if (!thread_.joinable()) return;
    running_.wait();  // Before, stop() does nothing.
    server_.stop();
    // A client that sends its request a byte at a time would keep a thread as long as it likes.
    end_input_at(site_.port);
    thread_.join();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  SetupStatus open();
  std::uint16_t port() const noexcept { return site_.port; }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  SetupStatus bind();
  void set_limits();
  void set_routes();
  void set_admin_routes();
  /// False: it was refused.
  bool is_own(const Request& request, Response& response) const;
  void refuse_path(const Request& request, Response& response) const;
  void healthcheck(Response& response);
  StatusBoard::Reading ask();
  /// What the loop says of itself, as JSON.
  template <class ToJson>
  void show(Response& response, ToJson to_json);
  void status(Response& response);
  void degraded(Response& response);
  void metrics(Response& response);
  void post(const Request& request, Response& response);
  /// Nothing: it was refused.
  std::optional<AdminResult> carry_out(AdminCommand command, Response& response);
  void clear(const Request& request, Response& response);
  void checksums(const Request& request, Response& response);

  Site site_;
  ServerOptions options_;  ///< With the ports that were bound.
  const std::string pool_name_;
  const std::string machine_;
  StatusBoard& board_;
  AdminMailbox* const mailbox_;
  std::optional<AdminAccess> access_;
  httplib::Server server_;
  Tasks tasks_;
  std::latch running_{1};
  Thread thread_;  ///< Accepts.
};

// --- Opening ------------------------------------------------------------------------------------

SetupStatus AdminHttp::Impl::open() {
  set_limits();
  LARDER_TRY(bind());
  set_routes();
  if (const Status started = tasks_.start(); !started) {
    return SetupError{started.error().code(), started.error().to_string()};
  }
  server_.new_task_queue = [this]() -> httplib::TaskQueue* {
    running_.count_down();
    return new TaskQueue{tasks_};  // NOLINT: the server's.
  };
  auto thread = Thread::start("larder-accept", [this] { server_.listen_after_bind(); });
  if (!thread) return SetupError{thread.error().code(), thread.error().to_string()};
  thread_ = *std::move(thread);
  return {};
}

SetupStatus AdminHttp::Impl::bind() {
  auto endpoint = resolve_endpoint(site_.host, site_.port, site_.host_option);
  if (!endpoint) return endpoint.error();
  if (mailbox_ != nullptr) {
    LARDER_ASSIGN(access_, AdminAccess::open(options_, *endpoint));
  }
  // The library's own choice lets two servers share a port.
  int listener = -1;
  server_.set_socket_options([&listener](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    listener = socket;
  });
  errno = 0;
  int port = endpoint->port;
  if (port == 0) {
    port = server_.bind_to_any_port(endpoint->address);
  } else if (!server_.bind_to_port(endpoint->address, port)) {
    port = -1;
  }
  if (port < 0) return listen_error(*endpoint, site_.port_option, errno);
  site_.port = static_cast<std::uint16_t>(port);
  if (!site_.is_metrics_only) options_.http_port = site_.port;
  // Its five connections that may wait are less than some pages open at once.
  ::listen(listener, kBacklog);
  server_.set_socket_options([](socket_t) {});
  return {};
}

void AdminHttp::Impl::set_limits() {
  server_.set_keep_alive_max_count(1);  // An idle connection would keep a thread.
  server_.set_keep_alive_timeout(kPieceSeconds);
  server_.set_read_timeout(kPieceSeconds);
  server_.set_write_timeout(kPieceSeconds);
  server_.set_payload_max_length(kBodyBytesMax);
}

// --- Answering ----------------------------------------------------------------------------------

void AdminHttp::Impl::set_routes() {
  using Handled = httplib::Server::HandlerResponse;
  server_.set_pre_routing_handler([this](const Request& request, Response& response) {
    if (!is_own(request, response)) return Handled::Handled;
    // A POST without a length has no body, and the library would read until the client goes.
    const bool has_body =
        request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
    if (request.method != "POST" || has_body) return Handled::Unhandled;
    post(request, response);
    return Handled::Handled;
  });
  server_.Get("/metrics", [this](const Request&, Response& response) { metrics(response); });
  if (!site_.is_metrics_only) set_admin_routes();
  server_.Post(".*",
               [this](const Request& request, Response& response) { post(request, response); });
  server_.set_error_handler([this](const Request& request, Response& response) {
    if (response.status == 404 && response.body.empty()) refuse_path(request, response);
  });
}

void AdminHttp::Impl::refuse_path(const Request& request, Response& response) const {
  refuse(response, 404,
         "larder has no " + printable(request.method) + " " + printable(request.path) +
             (site_.is_metrics_only
                  ? " here; this port has GET /metrics alone"
                  : "; it has GET /, /healthcheck, /live, /degraded, /status, /config, /metrics, "
                    "/version, and POST /cache/clear, /cache/checksums"));
}

void AdminHttp::Impl::set_admin_routes() {
  const auto fixed = [this](const char* path, const json& value, int indent = -1) {
    server_.Get(path, [text = text_of(value, indent)](const Request&, Response& response) {
      response.set_content(text, kJson);
    });
  };
  const std::string own_version = "larder-" + std::string{version()};
  fixed("/", {{"status", "ok"}, {"service", "larder HTTP API"}});
  fixed("/live", {{"status", "alive"}});
  fixed("/config", config_json(options_, pool_name_), 2);
  fixed("/version", own_version);
  fixed("/lmc_version", own_version);  // What speaks here; it is no version of LMCache.
  fixed("/commit_id", "");
  server_.Get("/healthcheck",
              [this](const Request&, Response& response) { healthcheck(response); });
  server_.Get("/degraded", [this](const Request&, Response& response) { degraded(response); });
  server_.Get("/status", [this](const Request&, Response& response) { status(response); });
}

bool AdminHttp::Impl::is_own(const Request& request, Response& response) const {
  const std::string host = request.get_header_value("Host");
  const std::string origin = request.get_header_value("Origin");
  if (request.has_header("Host") && !is_own_host(host, site_.host, machine_)) {
    refuse(response, 403,
           "the Host header names '" + printable(host) +
               "', which is not this server; ask it by its address or by the name of " +
               site_.host_option);
    return false;
  }
  if (request.has_header("Origin") && !is_own_origin(origin, site_.host, machine_)) {
    refuse(response, 403, "pages of '" + printable(origin) + "' may not ask this server");
    return false;
  }
  return true;
}

void AdminHttp::Impl::healthcheck(Response& response) {
  if (ask().is_fresh) {
    response.set_content(R"({"status":"healthy"})", kJson);
    return;
  }
  response.status = 503;
  response.set_content(
      text_of({{"status", "unhealthy"},
               {"reason", "the thread that answers clients did not run for a second"}}),
      kJson);
}

StatusBoard::Reading AdminHttp::Impl::ask() {
  return board_.ask(RealClock::instance().now_ns() + kLoopAnswersNs);
}

template <class ToJson>
void AdminHttp::Impl::show(Response& response, ToJson to_json) {
  const StatusBoard::Reading reading = ask();
  if (reading.status == nullptr) {
    return refuse(response, 503, "the server is starting; ask again in a moment");
  }
  response.set_content(text_of(to_json(*reading.status, reading.is_fresh)), kJson);
}

void AdminHttp::Impl::status(Response& response) {
  show(response, [this](const ServerStatus& status, bool is_fresh) {
    return status_json(status, options_, is_fresh);
  });
}

void AdminHttp::Impl::degraded(Response& response) {
  show(response, degraded_json);
}

void AdminHttp::Impl::metrics(Response& response) {
  const StatusBoard::Reading reading = ask();
  if (reading.status == nullptr) {
    return refuse(response, 503, "the server is starting; ask again in a moment");
  }
  const std::string text = metrics_text({.status = *reading.status,
                                         .instance_id = options_.instance_id,
                                         .silent_ns = reading.silent_ns,
                                         .has_lmcache_names = options_.has_lmcache_metrics});
  response.set_content(text, "text/plain; version=0.0.4; charset=utf-8");
}

// --- Commands -----------------------------------------------------------------------------------

void AdminHttp::Impl::post(const Request& request, Response& response) {
  if (mailbox_ != nullptr && request.path == "/cache/clear") return clear(request, response);
  if (mailbox_ != nullptr && request.path == "/cache/checksums")
    return checksums(request, response);
  refuse_path(request, response);
}

std::optional<AdminResult> AdminHttp::Impl::carry_out(AdminCommand command, Response& response) {
  AdminAnswer answer =
      mailbox_->ask(std::move(command), RealClock::instance().now_ns() + kCommandNs);
  if (answer) return *std::move(answer);
  refuse(response, code_of(answer.error().kind), answer.error().text);
  return std::nullopt;
}

void AdminHttp::Impl::clear(const Request& request, Response& response) {
  if (!access_->allows(request.get_header_value("Authorization"))) {
    response.set_header("WWW-Authenticate", "Bearer");
    return refuse(response, 401, kTokenWanted);
  }
  const auto command = read_clear(request.body);
  if (!command) return refuse(response, 400, command.error());
  if (carry_out(*command, response)) response.set_content(text_of(clear_json()), kJson);
}

/// Needs no token, although it is a POST: it only reads, tells no more of a worker's memory than
/// sums of 16 bytes, and the bench of LMCache, which asks for them, sends none. What it costs is
/// bounded: see AdminMailbox::kAskersMax and admin_requests.cc.
void AdminHttp::Impl::checksums(const Request& request, Response& response) {
  const auto command = read_checksums(request.body);
  if (!command) return refuse(response, 400, command.error());
  const auto result = carry_out(*command, response);
  if (result) response.set_content(text_of(checksums_json(*command, *result)), kJson);
}

// --- The class itself ---------------------------------------------------------------------------

AdminHttp::AdminHttp(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
AdminHttp::~AdminHttp() = default;

SetupResult<std::unique_ptr<AdminHttp>> AdminHttp::open(const ServerOptions& options,
                                                        const std::string& pool_name,
                                                        StatusBoard& board, AdminMailbox& mailbox) {
  Site site{.host = options.http_host, .port = options.http_port};
  auto impl = std::make_unique<Impl>(std::move(site), options, pool_name, board, &mailbox);
  LARDER_TRY(impl->open());
  return std::unique_ptr<AdminHttp>{new AdminHttp{std::move(impl)}};
}

SetupResult<std::unique_ptr<AdminHttp>> AdminHttp::open_metrics(const ServerOptions& options,
                                                                StatusBoard& board) {
  Site site{.host = options.metrics_host,
            .port = *options.metrics_port,
            .host_option = "--metrics-host",
            .port_option = "--metrics-port",
            .is_metrics_only = true};
  auto impl = std::make_unique<Impl>(std::move(site), options, "", board, nullptr);
  LARDER_TRY(impl->open());
  return std::unique_ptr<AdminHttp>{new AdminHttp{std::move(impl)}};
}

std::uint16_t AdminHttp::port() const noexcept {
  return impl_->port();
}

}  // namespace larder::server
