#include "larder/tools/metrics_source.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/base/unique_fd.h"

namespace larder::tools {
namespace {

constexpr std::size_t kTextBytesMax = std::size_t{64} << 20;
constexpr std::size_t kStatusBytesMax = 200;
constexpr std::string_view kRemedy =
    "; a process offers its numbers there with LARDER_METRICS=ADDRESS or larder.serve_metrics()";

SetupError cannot_read(const std::string& address, const std::string& why) {
  return {ErrorCode::kUnavailable, fmt::format("{}: {}{}", printable(address), why, kRemedy)};
}

SetupError too_long(const std::string& address) {
  return cannot_read(address,
                     fmt::format("the answer is longer than {}", format_bytes(kTextBytesMax)));
}

SetupError no_address(const std::string& address) {
  return {ErrorCode::kInvalidArgument,
          fmt::format("{}: no address; wanted HOST:PORT, PORT, http://HOST:PORT/metrics, "
                      "unix:PATH, a file, or - for standard input",
                      printable(address))};
}

/// An address taken apart.
struct Source {
  std::string socket_path;  ///< Path of a unix socket; else `host`.
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
  if (!is_url && source.port.empty() && source.path == "/metrics") {  // A port alone.
    std::swap(source.host, source.port);
    source.host = "127.0.0.1";
  }
  const bool is_number = !source.port.empty() && source.port.size() <= 5 &&
                         source.port.find_first_not_of("0123456789") == std::string::npos;
  if (source.host.empty() || !is_number) return no_address(address);
  return source;
}

/// Lets the next call return at `until_ns`. False: that has passed.
bool set_end(int fd, std::uint64_t until_ns) {
  const std::uint64_t now_ns = RealClock::instance().now_ns();
  if (now_ns >= until_ns) return false;
  const std::uint64_t micros = (until_ns - now_ns) / 1000 + 1;  // 0 would be no limit at all.
  const timeval limit{.tv_sec = static_cast<time_t>(micros / 1'000'000),
                      .tv_usec = static_cast<suseconds_t>(micros % 1'000'000)};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));  // Also for connect().
  return true;
}

std::string reason_text(int number) {
  if (number == EAGAIN || number == EINPROGRESS) return "no answer in time";
  return errno_text(number);
}

SetupResult<UniqueFd> connect_socket(const std::string& address, const Source& source,
                                     std::uint64_t until_ns) {
  sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
  if (source.socket_path.size() >= sizeof(name.sun_path)) {
    return SetupError{ErrorCode::kInvalidArgument,
                      fmt::format("{}: a socket's path has at most {} bytes", printable(address),
                                  sizeof(name.sun_path) - 1)};
  }
  source.socket_path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return cannot_read(address, reason_text(errno));
  if (!set_end(fd.get(), until_ns)) return cannot_read(address, reason_text(EAGAIN));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    return cannot_read(address, reason_text(errno));
  }
  return fd;
}

SetupResult<UniqueFd> connect_host(const std::string& address, const Source& source,
                                   std::uint64_t until_ns) {
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
      if (!set_end(fd.get(), until_ns)) return cannot_read(address, reason_text(EAGAIN));
      if (::connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) return fd;
    }
    last_errno = errno;
  }
  return cannot_read(address, reason_text(last_errno));
}

/// The body's length according to the header; empty if none has it.
std::optional<std::size_t> content_length(std::string_view head) {
  constexpr std::string_view kName = "\r\ncontent-length:";
  const auto at = std::ranges::search(head, kName, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  });
  if (at.empty()) return std::nullopt;
  std::string_view text{at.end(), head.end()};
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(' ')));
  std::size_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  return error == std::errc{} && end != text.data() ? std::optional{bytes} : std::nullopt;
}

/// Asks by HTTP 1.0, so that the answer ends with the connection.
SetupResult<std::string> ask(const std::string& address, const Source& source, const UniqueFd& fd,
                             std::uint64_t until_ns) {
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\nAccept: */*\r\n\r\n", source.path,
                  source.host.empty() ? "localhost" : source.host);
  const auto too_late = [&] { return cannot_read(address, reason_text(EAGAIN)); };
  for (std::size_t sent = 0; sent < request.size();) {
    if (!set_end(fd.get(), until_ns)) return too_late();
    const ssize_t count =
        ::send(fd.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return cannot_read(address, reason_text(errno));
    sent += static_cast<std::size_t>(count);
  }
  std::string answer;
  std::array<char, 65'536> piece{};
  for (;;) {
    if (!set_end(fd.get(), until_ns)) return too_late();
    const ssize_t count = ::recv(fd.get(), piece.data(), piece.size(), 0);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return cannot_read(address, reason_text(errno));
    answer.append(piece.data(), static_cast<std::size_t>(count));
    if (answer.size() > kTextBytesMax) return too_long(address);
  }
  const std::size_t end = answer.find("\r\n\r\n");
  const std::string status = answer.substr(0, std::min(answer.find("\r\n"), kStatusBytesMax));
  if (!status.starts_with("HTTP/1.") || end == std::string::npos) {
    return cannot_read(address, "what answers there does not speak HTTP");
  }
  if (status.find(" 200") == std::string::npos) {
    SetupError error =
        cannot_read(address, fmt::format("{} of {}", printable(status), source.path));
    if (status.find(" 404") != std::string::npos) error.code = ErrorCode::kUnimplemented;
    return error;
  }
  const std::size_t body = answer.size() - end - 4;
  if (content_length({answer.data(), end}).value_or(body) > body) {
    return cannot_read(address, "the answer was cut off");
  }
  answer.erase(0, end + 4);
  return answer;
}

SetupResult<std::string> ask(const std::string& address, const Source& source,
                             std::chrono::milliseconds timeout) {
  const std::uint64_t until_ns =
      RealClock::instance().now_ns() + static_cast<std::uint64_t>(timeout.count()) * 1'000'000;
  LARDER_ASSIGN(const UniqueFd fd, source.socket_path.empty()
                                       ? connect_host(address, source, until_ns)
                                       : connect_socket(address, source, until_ns));
  return ask(address, source, fd, until_ns);
}

SetupResult<std::string> read_stream(const std::string& address, std::istream& stream) {
  std::string text;
  std::array<char, 65'536> piece{};
  while (stream.read(piece.data(), piece.size()), stream.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(stream.gcount()));
    if (text.size() > kTextBytesMax) return too_long(address);
  }
  if (stream.bad()) return cannot_read(address, "it cannot be read");
  return text;
}

/// "unix:PATH" for the path of a socket; else the address as it is. A directory is an error.
SetupResult<std::string> target_of(const std::string& address, bool& is_file) {
  struct stat facts{};
  if (::stat(address.c_str(), &facts) != 0) {
    if (address.find('/') != std::string::npos && address.find(':') == std::string::npos) {
      return cannot_read(address, reason_text(errno));
    }
    return address;
  }
  if (S_ISDIR(facts.st_mode)) {
    return SetupError{ErrorCode::kInvalidArgument,
                      fmt::format("{}: a directory; what a process offers is a socket or a port{}"
                                  ". A store that nobody has open: larder inspect {}",
                                  printable(address), kRemedy, printable(address))};
  }
  if (!S_ISSOCK(facts.st_mode) && !S_ISREG(facts.st_mode)) {
    return cannot_read(address, "it is neither a file nor a socket");
  }
  is_file = !S_ISSOCK(facts.st_mode);
  return is_file ? address : "unix:" + address;
}

}  // namespace

SetupResult<std::string> read_metrics(const std::string& address,
                                      std::chrono::milliseconds timeout) {
  if (address == "-") return read_stream("standard input", std::cin);
  bool is_file = false;
  LARDER_ASSIGN(const std::string target, target_of(address, is_file));
  if (is_file) {
    std::ifstream file{address};
    if (!file) return cannot_read(address, reason_text(errno));
    return read_stream(address, file);
  }
  LARDER_ASSIGN(const Source source, parse_source(target));
  return ask(address, source, timeout);
}

SetupResult<std::string> read_page(const std::string& address, const std::string& page,
                                   std::chrono::milliseconds timeout) {
  bool is_file = address == "-";
  LARDER_ASSIGN(const std::string target, target_of(address, is_file));
  if (is_file) {
    return SetupError{ErrorCode::kUnimplemented, printable(address) + ": a file has no pages"};
  }
  LARDER_ASSIGN(Source source, parse_source(target));
  source.path = page;
  return ask(address, source, timeout);
}

}  // namespace larder::tools
