#include "larder/server/http_server.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/event_fd.h"
#include "larder/base/key_text.h"
#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/base/unique_fd.h"
#include "larder/server/endpoint.h"
#include "larder/server/http_guard.h"
#include "larder/server/http_stream.h"
#include "larder/server/tcp_socket.h"

namespace larder::server {
namespace {

constexpr int kBacklog = 128;  ///< Pages that open many connections at once.
constexpr std::size_t kWaitingMax = 64;
/// No descriptors or memory for another connection.
constexpr std::uint64_t kAcceptAgainNs = 10'000'000;
/// How long replies may take that are being sent at the end.
constexpr std::uint64_t kRepliesEndNs = 1'000'000'000;

/// "." would not match a line's end, which a path may have when it is decoded.
constexpr const char* kAnyPath = R"([\s\S]*)";

std::string machine_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

bool is_of_this_user(int fd) noexcept {
  ::ucred peer{};
  ::socklen_t bytes = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

bool has_body(const httplib::Request& request) {
  return request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
}

/// Speaks HTTP over one connection after another. Every request goes to the handler: the library
/// has no routes. Threads: one.
class Protocol final : private httplib::Server {
 public:
  Protocol(const HttpSite& site, const std::string& machine, HttpHandler& handler)
      : site_(site), machine_(machine), handler_(handler) {
    // Through a reader: the library itself truncates a form, as curl posts it, at 8 KiB.
    const auto answer_with_body = [this](const httplib::Request&, httplib::Response& response,
                                         const httplib::ContentReader& read) {
      const bool is_whole = read([this](const char* data, std::size_t bytes) {
        head_.body.append(data, bytes);
        return head_.body.size() <= body_bytes_max_;
      });
      if (is_whole) return give(handler_.answer(head_), response);
      if (head_.body.size() > body_bytes_max_) give(too_long(), response);
    };
    set_pre_routing_handler([this](const auto& request, auto& response) {
      return admit(request, response) ? HandlerResponse::Unhandled : HandlerResponse::Handled;
    });
    Post(kAnyPath, answer_with_body);
    Put(kAnyPath, answer_with_body);
    Patch(kAnyPath, answer_with_body);
    Delete(kAnyPath, answer_with_body);
  }

  void answer(int fd) {
    HttpStream stream{fd};
    stream_ = &stream;
    has_unread_body_ = false;
    bool is_closed = false;
    process_request(stream, true, is_closed, nullptr);
    if (has_unread_body_) stream.discard_input();
    stream_ = nullptr;
  }

 private:
  /// True: the library is to read the body. Otherwise `response` has the answer.
  bool admit(const httplib::Request& request, httplib::Response& response);
  std::optional<HttpReply> refuse_foreign(const httplib::Request& request) const;
  HttpReply too_long() const;
  static void give(const HttpReply& reply, httplib::Response& response);

  const HttpSite& site_;
  const std::string& machine_;
  HttpHandler& handler_;
  HttpStream* stream_ = nullptr;
  HttpRequest head_;
  std::size_t body_bytes_max_ = 0;
  bool has_unread_body_ = false;
};

bool Protocol::admit(const httplib::Request& request, httplib::Response& response) {
  // Whole, whatever part was asked for: the library would give as many copies as there are ranges.
  const_cast<httplib::Request&>(request).ranges.clear();
  const bool has_body_of_its_own = has_body(request);
  has_unread_body_ = has_body_of_its_own;
  const auto answered = [&](const HttpReply& reply) {
    give(reply, response);
    return false;
  };
  if (const auto refused = refuse_foreign(request)) return answered(*refused);
  head_ = {.method = request.method == "HEAD" ? "GET" : request.method,
           .path = request.path,
           .target = request.target,
           .query = {request.params.begin(), request.params.end()},
           .authorization = request.get_header_value("Authorization"),
           .accept = request.get_header_value("Accept"),
           .is_of_same_user = !site_.unix_path.empty(),
           .body = {}};
  const auto body_bytes_max = handler_.admit(head_);
  if (!body_bytes_max) return answered(body_bytes_max.error());
  // Without a length the library would read until the client closes.
  const bool is_read = request.method == "POST" || request.method == "PUT" ||
                       request.method == "PATCH" || request.method == "DELETE";
  if (!has_body_of_its_own || !is_read) return answered(handler_.answer(head_));
  if (request.has_header("Content-Encoding")) {
    return answered(refusal(415, "the body is compressed; send it as it is"));
  }
  if (request.is_multipart_form_data()) {
    return answered(refusal(415, "the body is a form of several parts; send JSON"));
  }
  body_bytes_max_ = *body_bytes_max;
  const std::string length = request.get_header_value("Content-Length");
  if (std::strtoull(length.c_str(), nullptr, 10) > *body_bytes_max) {
    return answered(too_long());
  }
  stream_->allow_body(*body_bytes_max);
  has_unread_body_ = false;
  return true;
}

std::optional<HttpReply> Protocol::refuse_foreign(const httplib::Request& request) const {
  if (!site_.unix_path.empty()) return std::nullopt;  // No browser reaches it.
  if (site_.is_any_name_own) return std::nullopt;
  const std::string host = request.get_header_value("Host");
  const std::string origin = request.get_header_value("Origin");
  if (request.has_header("Host") && !is_own_host(host, site_.host, machine_)) {
    return refusal(403, "the Host header names '" + printable(host) +
                            "', which is not this server; ask it by its address or by the name "
                            "of " +
                            site_.host_option);
  }
  if (request.has_header("Origin") && !is_own_origin(origin, site_.host, machine_)) {
    return refusal(403, "pages of '" + printable(origin) + "' may not ask this server");
  }
  return std::nullopt;
}

HttpReply Protocol::too_long() const {
  return refusal(413, "the body has more than the " + std::to_string(body_bytes_max_) +
                          " bytes that " + printable(head_.path) + " takes");
}

void Protocol::give(const HttpReply& reply, httplib::Response& response) {
  response.status = reply.status;
  for (const auto& [name, value] : reply.headers) response.set_header(name, value);
  response.set_content(reply.body, reply.content_type);
}

}  // namespace

HttpReply refusal(int status, std::string_view detail) {
  const nlohmann::ordered_json body{{"detail", detail}, {"message", detail}};
  return {.status = status,
          .body = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)};
}

class HttpServer::Impl {
 public:
  explicit Impl(HttpSite site) : site_(std::move(site)), machine_(machine_name()) {}
  ~Impl() { end(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  SetupStatus open();
  SetupStatus start(HttpHandler& handler);
  const std::string& address() const noexcept { return address_; }
  std::uint16_t port() const noexcept { return site_.port; }

 private:
  int listener() const noexcept { return unix_ ? unix_->fd() : tcp_.get(); }
  void accept_all();
  /// False: there is none now.
  bool accept_one();
  void put(UniqueFd connection) LARDER_EXCLUDES(mutex_);
  UniqueFd take() LARDER_EXCLUDES(mutex_);
  void give_back(UniqueFd connection) LARDER_EXCLUDES(mutex_);
  void serve(HttpHandler& handler);
  void end() LARDER_EXCLUDES(mutex_);

  HttpSite site_;
  const std::string machine_;
  std::string address_;
  UniqueFd tcp_;
  std::optional<UnixListener> unix_;
  std::optional<EventFd> stop_;
  std::vector<Thread> threads_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<UniqueFd> waiting_ LARDER_GUARDED_BY(mutex_);
  std::set<int> in_work_ LARDER_GUARDED_BY(mutex_);
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;
};

// --- Begin and end ------------------------------------------------------------------------------

SetupStatus HttpServer::Impl::open() {
  auto stop = EventFd::create();
  if (!stop) return SetupError{stop.error().code(), stop.error().to_string()};
  stop_ = *std::move(stop);
  if (!site_.unix_path.empty()) {
    LARDER_ASSIGN(UnixListener listener, UnixListener::open(site_.unix_path, site_.unix_option));
    unix_.emplace(std::move(listener));
    site_.port = 0;
    return {};
  }
  LARDER_ASSIGN(const TcpEndpoint endpoint,
                resolve_endpoint(site_.host, site_.port, site_.host_option));
  LARDER_ASSIGN(tcp_, listen_at(endpoint, kBacklog, site_.port_option));
  address_ = endpoint.address;
  site_.port = local_port_of(tcp_.get());
  return {};
}

SetupStatus HttpServer::Impl::start(HttpHandler& handler) {
  const auto begin = [this](const char* name, std::function<void()> body) -> SetupStatus {
    auto thread = Thread::start(name, std::move(body));
    if (!thread) return SetupError{thread.error().code(), thread.error().to_string()};
    threads_.push_back(*std::move(thread));
    return {};
  };
  for (std::size_t i = 0; i < site_.threads; ++i) {
    LARDER_TRY(begin("larder-http", [this, &handler] { serve(handler); }));
  }
  return begin("larder-accept", [this] { accept_all(); });
}

void HttpServer::Impl::end() {
  if (stop_) stop_->signal();
  {
    const MutexLock lock{mutex_};
    is_ending_ = true;
    waiting_.clear();
    // A client that sends its request a byte at a time would keep a thread for seconds.
    for (const int fd : in_work_) ::shutdown(fd, SHUT_RD);
    changed_.notify_all();
    // And so would one that does not read its reply.
    const std::uint64_t until_ns = RealClock::instance().now_ns() + kRepliesEndNs;
    while (!in_work_.empty()) {
      const std::uint64_t now_ns = RealClock::instance().now_ns();
      if (now_ns >= until_ns) break;
      changed_.wait_for(mutex_, until_ns - now_ns);
    }
    for (const int fd : in_work_) ::shutdown(fd, SHUT_RDWR);
  }
  threads_.clear();
}

// --- Connections --------------------------------------------------------------------------------

void HttpServer::Impl::accept_all() {
  for (;;) {
    wait_readable(listener(), stop_->get(), kNever);
    {
      const MutexLock lock{mutex_};
      if (is_ending_) return;
    }
    while (accept_one()) {
    }
  }
}

bool HttpServer::Impl::accept_one() {
  UniqueFd connection{::accept4(listener(), nullptr, nullptr, SOCK_CLOEXEC)};
  if (!connection) {
    const bool is_short = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (!is_short) return errno == EINTR || errno == ECONNABORTED;
    // The listener stays readable meanwhile.
    wait_readable(stop_->get(), stop_->get(), RealClock::instance().now_ns() + kAcceptAgainNs);
    return false;
  }
  if (unix_ && !is_of_this_user(connection.get())) return true;
  put(std::move(connection));
  return true;
}

/// Waits while the queue is full.
void HttpServer::Impl::put(UniqueFd connection) {
  const MutexLock lock{mutex_};
  while (waiting_.size() >= kWaitingMax && !is_ending_) changed_.wait(mutex_);
  if (is_ending_) return;
  waiting_.push_back(std::move(connection));
  changed_.notify_all();
}

/// None: the server is ending.
UniqueFd HttpServer::Impl::take() {
  const MutexLock lock{mutex_};
  while (waiting_.empty() && !is_ending_) changed_.wait(mutex_);
  if (waiting_.empty()) return UniqueFd{};
  UniqueFd connection = std::move(waiting_.front());
  waiting_.pop_front();
  in_work_.insert(connection.get());
  changed_.notify_all();
  return connection;
}

/// It is closed before its number can be another connection's.
void HttpServer::Impl::give_back(UniqueFd connection) {
  const MutexLock lock{mutex_};
  in_work_.erase(connection.get());
  connection.reset();
  changed_.notify_all();
}

void HttpServer::Impl::serve(HttpHandler& handler) {
  Protocol protocol{site_, machine_, handler};
  for (;;) {
    UniqueFd connection = take();
    if (!connection) return;
    protocol.answer(connection.get());
    give_back(std::move(connection));
  }
}

// --- The class itself ---------------------------------------------------------------------------

HttpServer::HttpServer(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

SetupResult<std::unique_ptr<HttpServer>> HttpServer::open(HttpSite site) {
  auto impl = std::make_unique<Impl>(std::move(site));
  LARDER_TRY(impl->open());
  return std::unique_ptr<HttpServer>{new HttpServer{std::move(impl)}};
}

SetupStatus HttpServer::start(HttpHandler& handler) {
  return impl_->start(handler);
}

const std::string& HttpServer::address() const noexcept {
  return impl_->address();
}

std::uint16_t HttpServer::port() const noexcept {
  return impl_->port();
}

}  // namespace larder::server
