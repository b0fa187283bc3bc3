#include "tests/support/redis_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/connectors/resp/resp_parser.h"

namespace larder::testing {
namespace {

constexpr std::uint64_t kPatienceNs = 60'000'000'000;
constexpr int kStartsMax = 5;  // Somebody else may take the port first.

/// A port that is free at the moment.
std::uint16_t free_port() {
  const UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  socklen_t bytes = sizeof(address);
  LARDER_CHECK(fd && ::bind(fd.get(), name, bytes) == 0);
  LARDER_CHECK(::getsockname(fd.get(), name, &bytes) == 0);
  return ntohs(address.sin_port);
}

bool has_program(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

/// Reads what the server says until it is ready. False: it ended before, or took too long.
bool wait_until_ready(int fd) {
  const std::uint64_t give_up_ns = RealClock::instance().now_ns() + kPatienceNs;
  std::string said;
  while (RealClock::instance().now_ns() < give_up_ns) {
    pollfd waited{fd, POLLIN, 0};
    if (::poll(&waited, 1, 1000) == 0) continue;
    std::array<char, 4096> piece{};
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got <= 0) return false;
    said.append(piece.data(), static_cast<std::size_t>(got));
    if (said.find("Ready to accept connections") != std::string::npos) return true;
  }
  return false;
}

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  LARDER_CHECK(path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (!fd ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fd.reset();
  }
  return fd;
}

std::string exchange(int fd, std::initializer_list<std::string_view> words) {
  std::string request = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string_view word : words) {
    request += "$" + std::to_string(word.size()) + "\r\n";
    request += word;
    request += "\r\n";
  }
  for (std::size_t sent = 0; sent < request.size();) {
    const ssize_t put = ::send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (put <= 0) return "-LOST";
    sent += static_cast<std::size_t>(put);
  }
  resp::RespParser parser;
  std::string value;
  for (;;) {
    std::array<std::byte, 4096> piece{};
    const ssize_t got = ::recv(fd, piece.data(), piece.size(), 0);
    if (got <= 0) return "-LOST";
    auto left = std::span<const std::byte>{piece}.first(static_cast<std::size_t>(got));
    while (!left.empty()) {
      if (const std::size_t part = std::min<std::size_t>(parser.payload_left(), left.size())) {
        value.append(reinterpret_cast<const char*>(left.data()), part);
        parser.took_payload(part);
        left = left.subspan(part);
        continue;
      }
      switch (parser.next(left)) {
        case resp::RespParser::Event::kSimple:
          return std::string{parser.text()};
        case resp::RespParser::Event::kError:
          return "-" + std::string{parser.text()};
        case resp::RespParser::Event::kInteger:
          return std::to_string(parser.integer());
        case resp::RespParser::Event::kNull:
          return "(nil)";
        case resp::RespParser::Event::kBulkEnd:
          return value;
        case resp::RespParser::Event::kNeedMore:
        case resp::RespParser::Event::kBulk:
          break;
        case resp::RespParser::Event::kArray:
        case resp::RespParser::Event::kBroken:
          return "-UNREADABLE";
      }
    }
  }
}

}  // namespace

RedisServer::RedisServer(RedisServerOptions options) : options_(std::move(options)) {
  socket_path_ = directory_.path() + "/socket";
}

RedisServer::~RedisServer() {
  kill();
}

SetupResult<std::unique_ptr<RedisServer>> RedisServer::create(const RedisServerOptions& options) {
  if (!has_program(options.program)) {
    return SetupError{ErrorCode::kUnimplemented, options.program};
  }
  std::unique_ptr<RedisServer> server{new RedisServer{options}};
  SetupStatus started;
  for (int i = 0; i < kStartsMax; ++i) {
    server->port_ = free_port();
    do {
      server->tls_port_ = free_port();
    } while (server->tls_port_ == server->port_);
    started = server->start();
    if (started) return server;
  }
  return started.error();
}

std::vector<std::string> RedisServer::arguments() const {
  std::vector<std::string> all{options_.program,
                               "--port",
                               std::to_string(port_),
                               "--bind",
                               "127.0.0.1",
                               "-::1",
                               "--unixsocket",
                               socket_path_,
                               "--dir",
                               directory_.path(),
                               "--save",
                               "",
                               "--appendonly",
                               "no",
                               "--logfile",
                               ""};
  if (!options_.password.empty()) {
    all.insert(all.end(), {"--requirepass", options_.password});
  }
  if (options_.has_tls) {
    const std::string& at = options_.certificates;
    all.insert(all.end(),
               {"--tls-port", std::to_string(tls_port_), "--tls-cert-file", at + "/server.pem",
                "--tls-key-file", at + "/server.key", "--tls-ca-cert-file", at + "/ca.pem"});
  }
  all.insert(all.end(), options_.arguments.begin(), options_.arguments.end());
  return all;
}

SetupStatus RedisServer::start() {
  LARDER_CHECK(process_ < 0);
  std::array<int, 2> ends{};
  LARDER_CHECK(::pipe(ends.data()) == 0);
  UniqueFd from_server{ends[0]};
  UniqueFd to_us{ends[1]};
  std::vector<std::string> texts = arguments();
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  LARDER_CHECK(process_ >= 0);
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::dup2(to_us.get(), STDOUT_FILENO);
    ::dup2(to_us.get(), STDERR_FILENO);
    from_server.reset();
    to_us.reset();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvp(pointers.front(), pointers.data());
    ::_exit(127);
  }
  to_us.reset();
  if (wait_until_ready(from_server.get())) return {};
  kill();
  return SetupError{ErrorCode::kInternal, options_.program + " did not start"};
}

void RedisServer::kill() {
  control_.reset();
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
}

void RedisServer::pause() {
  LARDER_CHECK(::kill(process_, SIGSTOP) == 0);
  int status = 0;
  while (::waitpid(process_, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
  LARDER_CHECK(WIFSTOPPED(status));
}

void RedisServer::resume() {
  LARDER_CHECK(::kill(process_, SIGCONT) == 0);
}

std::string RedisServer::command(std::initializer_list<std::string_view> words) {
  if (!control_) {
    control_ = connect_to(socket_path_);
    if (!control_) return "-LOST";
    if (!options_.password.empty()) exchange(control_.get(), {"AUTH", options_.password});
  }
  std::string reply = exchange(control_.get(), words);
  if (reply == "-LOST") control_.reset();
  return reply;
}

SetupStatus make_certificates(const std::string& directory) {
  if (!has_program("openssl")) return SetupError{ErrorCode::kUnimplemented, "openssl"};
  const std::string key = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes ";
  const std::string sign = "openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 ";
  const std::string script =
      "set -e; cd '" + directory + "'; exec >openssl.log 2>&1; " + key +
      "-x509 -days 2 -subj /CN=larder-test-ca -keyout ca.key -out ca.pem; " + key +
      "-x509 -days 2 -subj /CN=another-ca -keyout other.key -out other_ca.pem; " + key +
      "-subj /CN=localhost -keyout server.key -out server.csr; "
      "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' >server.ext; " +
      sign + "-in server.csr -extfile server.ext -out server.pem; " + key +
      "-subj /CN=larder-client -keyout client.key -out client.csr; " + sign +
      "-in client.csr -out client.pem";
  if (std::system(("sh -c \"" + script + "\"").c_str()) != 0) {
    return SetupError{ErrorCode::kInternal, "openssl failed; see openssl.log"};
  }
  return {};
}

}  // namespace larder::testing
