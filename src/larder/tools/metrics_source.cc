// read_metrics(): the text behind an address.
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

#include "larder/base/key_text.h"
#include "larder/base/unique_fd.h"
#include "larder/tools/stats.h"

namespace larder::tools {
namespace {

constexpr std::size_t kTextBytesMax = std::size_t{64} << 20;
constexpr std::string_view kRemedy =
    "; a process offers its numbers there with LARDER_METRICS=ADDRESS or larder.serve_metrics()";

SetupError cannot_read(const std::string& address, const std::string& why) {
  return {ErrorCode::kUnavailable, fmt::format("{}: {}{}", printable(address), why, kRemedy)};
}

SetupError no_address(const std::string& address) {
  return {ErrorCode::kInvalidArgument,
          fmt::format("{}: no address; wanted HOST:PORT, http://HOST:PORT/metrics, unix:PATH, a "
                      "file, or - for standard input",
                      printable(address))};
}

/// An address taken apart.
struct Source {
  std::string socket_path;  ///< Of a unix socket; else `host`.
  std::string host;
  std::string port;
  std::string path = "/metrics";
};

SetupResult<Source> parse_source(const std::string& address) {
  Source source;
  if (address.starts_with("unix:")) {
    source.socket_path = address.substr(5);
    if (source.socket_path.empty()) return no_address(address);
    return source;
  }
  std::string_view rest = address;
  if (rest.starts_with("https://")) {
    return SetupError{ErrorCode::kInvalidArgument,
                      fmt::format("{}: TLS is not spoken; pipe it in: curl -s {} | larder stats -",
                                  printable(address), printable(address))};
  }
  const bool is_url = rest.starts_with("http://");
  source.port = is_url ? "80" : "";
  if (is_url) rest.remove_prefix(std::string_view{"http://"}.size());
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    if (rest.size() > slash + 1) source.path = rest.substr(slash);
    rest = rest.substr(0, slash);
  }
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos) {
    source.port = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  source.host = rest;
  const bool is_number = !source.port.empty() && source.port.size() <= 5 &&
                         source.port.find_first_not_of("0123456789") == std::string::npos;
  if (source.host.empty() || !is_number) return no_address(address);
  return source;
}

void set_timeout(int fd, std::chrono::milliseconds timeout) {
  const timeval limit{.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));  // Also of connect().
}

std::string reason_text(int number) {
  if (number == EAGAIN || number == EINPROGRESS) return "no answer in time";
  return errno_text(number);
}

SetupResult<UniqueFd> connect_socket(const std::string& address, const Source& source,
                                     std::chrono::milliseconds timeout) {
  sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
  if (source.socket_path.size() >= sizeof(name.sun_path)) {
    return SetupError{ErrorCode::kInvalidArgument,
                      fmt::format("{}: a socket's path has at most {} bytes", printable(address),
                                  sizeof(name.sun_path) - 1)};
  }
  source.socket_path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return cannot_read(address, reason_text(errno));
  set_timeout(fd.get(), timeout);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    return cannot_read(address, reason_text(errno));
  }
  return fd;
}

SetupResult<UniqueFd> connect_host(const std::string& address, const Source& source,
                                   std::chrono::milliseconds timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(source.host.c_str(), source.port.c_str(), &hints, &found);
  if (failed != 0) return cannot_read(address, ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned{found, ::freeaddrinfo};
  int last_errno = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    UniqueFd fd{::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol)};
    if (fd) {
      set_timeout(fd.get(), timeout);
      if (::connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) return fd;
    }
    last_errno = errno;
  }
  return cannot_read(address, reason_text(last_errno));
}

/// Asks by HTTP 1.0, so that the answer ends with the connection.
SetupResult<std::string> ask(const std::string& address, const Source& source, const UniqueFd& fd) {
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", source.path,
                  source.host.empty() ? "localhost" : source.host);
  for (std::size_t sent = 0; sent < request.size();) {
    const ssize_t count =
        ::send(fd.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return cannot_read(address, reason_text(errno));
    sent += static_cast<std::size_t>(count);
  }
  std::string answer;
  std::array<char, 65'536> piece{};
  for (;;) {
    const ssize_t count = ::recv(fd.get(), piece.data(), piece.size(), 0);
    if (count == 0) break;
    if (count < 0) return cannot_read(address, reason_text(errno));
    answer.append(piece.data(), static_cast<std::size_t>(count));
    if (answer.size() > kTextBytesMax) return cannot_read(address, "the answer has no end");
  }
  const std::size_t end = answer.find("\r\n\r\n");
  const std::string status = answer.substr(0, answer.find("\r\n"));
  if (!status.starts_with("HTTP/1.") || end == std::string::npos) {
    return cannot_read(address, "what answers there does not speak HTTP");
  }
  if (status.find(" 200") == std::string::npos) {
    return cannot_read(address, fmt::format("{} of {}", printable(status), source.path));
  }
  return answer.substr(end + 4);
}

SetupResult<std::string> read_stream(const std::string& address, std::istream& stream) {
  std::string text{std::istreambuf_iterator<char>{stream}, {}};
  if (stream.bad()) return cannot_read(address, "it cannot be read");
  return text;
}

}  // namespace

SetupResult<std::string> read_metrics(const std::string& address,
                                      std::chrono::milliseconds timeout) {
  if (address == "-") return read_stream("standard input", std::cin);
  std::string target = address;
  struct stat facts{};
  if (::stat(address.c_str(), &facts) == 0) {
    if (S_ISDIR(facts.st_mode)) {
      return SetupError{ErrorCode::kInvalidArgument,
                        fmt::format("{}: a directory; what a process offers is a socket or a port{}"
                                    ". A store that nobody has open: larder inspect {}",
                                    printable(address), kRemedy, printable(address))};
    }
    if (!S_ISSOCK(facts.st_mode)) {
      std::ifstream file{address};
      if (!file) return cannot_read(address, reason_text(errno));
      return read_stream(address, file);
    }
    target = "unix:" + address;
  } else if (address.find('/') != std::string::npos && address.find(':') == std::string::npos) {
    return cannot_read(address, reason_text(errno));
  }
  LARDER_ASSIGN(const Source source, parse_source(target));
  LARDER_ASSIGN(const UniqueFd fd, source.socket_path.empty()
                                       ? connect_host(address, source, timeout)
                                       : connect_socket(address, source, timeout));
  return ask(address, source, fd);
}

}  // namespace larder::tools
