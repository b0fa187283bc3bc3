#include "tests/support/scripted_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <string_view>

#include "larder/base/check.h"

namespace larder::testing {
namespace {

/// Reads commands, which clients write as lists of bulk strings.
class CommandReader {
 public:
  explicit CommandReader(int fd) : fd_(fd) {}

  /// Nothing: the connection has ended.
  std::optional<ScriptedPeer::Words> next() {
    const auto count = number('*');
    if (!count) return std::nullopt;
    ScriptedPeer::Words words;
    for (std::size_t i = 0; i < *count; ++i) {
      const auto bytes = number('$');
      if (!bytes || !fill(*bytes + 2)) return std::nullopt;
      words.push_back(buffer_.substr(0, *bytes));
      buffer_.erase(0, *bytes + 2);
    }
    return words;
  }

 private:
  bool read_more() {
    std::array<char, 65'536> piece{};
    const ssize_t got = ::recv(fd_, piece.data(), piece.size(), 0);
    if (got <= 0) return false;
    buffer_.append(piece.data(), static_cast<std::size_t>(got));
    return true;
  }
  bool fill(std::size_t bytes) {
    while (buffer_.size() < bytes) {
      if (!read_more()) return false;
    }
    return true;
  }
  std::optional<std::size_t> number(char type) {
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n")) == std::string::npos) {
      if (!read_more()) return std::nullopt;
    }
    std::size_t value = 0;
    LARDER_CHECK(buffer_.front() == type);
    std::from_chars(buffer_.data() + 1, buffer_.data() + end, value);
    buffer_.erase(0, end + 2);
    return value;
  }

  const int fd_;
  std::string buffer_;
};

std::optional<ScriptedPeer::Answer> usual_answer(const ScriptedPeer::Words& words) {
  const std::string& command = words.front();
  if (words.back() == "larder:probe") {
    return ScriptedPeer::Answer{.bytes = command == "GET" ? "$-1\r\n" : ":0\r\n"};
  }
  if (command == "PING") return ScriptedPeer::Answer{.bytes = "+PONG\r\n"};
  if (command == "CLIENT" || command == "AUTH" || command == "SELECT") {
    return ScriptedPeer::Answer{.bytes = "+OK\r\n"};
  }
  if (command == "INFO") {
    return ScriptedPeer::Answer{.bytes = "$23\r\nredis_version:0.0.0\r\n\r\n\r\n"};
  }
  return std::nullopt;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

}  // namespace

ScriptedPeer::ScriptedPeer(Script script, const char* address, std::uint16_t port)
    : script_(std::move(script)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  LARDER_CHECK(::inet_pton(AF_INET, address, &at.sin_addr) == 1);
  auto* const name = reinterpret_cast<sockaddr*>(&at);
  socklen_t bytes = sizeof(at);
  LARDER_CHECK(::bind(listener_.get(), name, bytes) == 0);
  LARDER_CHECK(::listen(listener_.get(), SOMAXCONN) == 0);
  LARDER_CHECK(::getsockname(listener_.get(), name, &bytes) == 0);
  port_ = ntohs(at.sin_port);
  acceptor_ = std::jthread{[this] { accept_all(); }};
}

ScriptedPeer::~ScriptedPeer() {
  std::vector<std::jthread> threads;
  {
    const MutexLock lock{mutex_};
    is_ending_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    for (const UniqueFd& socket : sockets_) ::shutdown(socket.get(), SHUT_RDWR);
  }
  acceptor_.join();
  {
    const MutexLock lock{mutex_};
    threads.swap(threads_);
  }
  threads.clear();
}

void ScriptedPeer::accept_all() {
  for (int connection = 0;; ++connection) {
    UniqueFd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    const MutexLock lock{mutex_};
    if (!socket || is_ending_) return;
    const int fd = socket.get();
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockets_.push_back(std::move(socket));
    threads_.emplace_back([this, fd, connection] { serve(fd, connection); });
  }
}

void ScriptedPeer::serve(int fd, int connection) {
  CommandReader reader{fd};
  while (const auto words = reader.next()) {
    auto answer = script_(*words, connection);
    if (!answer) answer = usual_answer(*words);
    if (!answer) continue;
    if (!answer->one_by_one) {
      if (!send_all(fd, answer->bytes)) return;
    } else {
      for (const char& byte : answer->bytes) {
        if (!send_all(fd, {&byte, 1})) return;
      }
    }
    if (answer->resets) {
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
      const MutexLock lock{mutex_};
      for (UniqueFd& socket : sockets_) {
        if (socket.get() == fd) socket.reset();
      }
      return;
    }
  }
}

}  // namespace larder::testing
