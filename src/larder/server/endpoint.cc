#include "larder/server/endpoint.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::server {
namespace {

constexpr int kBacklog = 4096;

struct FreeAddresses {
  void operator()(::addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// A unix socket's name, and the option that gave it.
struct UnixName {
  const std::string& path;
  std::string_view option;

  std::string shown() const { return std::string{option} + " '" + printable(path) + "' "; }
};

SetupError unix_error(const UnixName& name, const std::string& text) {
  return SetupError{ErrorCode::kUnavailable, name.shown() + text};
}

SetupError unix_errno(const UnixName& name, const std::string& text) {
  return unix_error(name, text + ": " + errno_text(errno));
}

std::string_view without_brackets(std::string_view host) noexcept {
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host.remove_prefix(1);
    host.remove_suffix(1);
  }
  return host;
}

const ::sockaddr* as_address(const ::sockaddr_un& address) noexcept {
  return reinterpret_cast<const ::sockaddr*>(&address);
}

/// Makes the name free, or says why it cannot be had.
SetupStatus remove_stale(const UnixName& name, const ::sockaddr_un& address) {
  struct ::stat found{};
  if (::lstat(name.path.c_str(), &found) != 0) return {};
  if (!S_ISSOCK(found.st_mode)) {
    return unix_error(name, "exists and is no socket; remove it, or choose another path");
  }
  const UniqueFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!probe) return unix_errno(name, "cannot be looked at");
  if (::connect(probe.get(), as_address(address), sizeof address) == 0 || errno == EAGAIN) {
    return unix_error(name,
                      "is in use by another server (`ss -xlp` shows which); stop that server, or "
                      "choose another path");
  }
  if (errno != ECONNREFUSED) return unix_errno(name, "exists and cannot be looked at");
  if (::unlink(name.path.c_str()) != 0 && errno != ENOENT) {
    return unix_errno(name, "was left behind by a server that has ended, and cannot be removed");
  }
  return {};
}

}  // namespace

std::string TcpEndpoint::to_url() const {
  const std::string host = is_ipv6() ? "[" + address + "]" : address;
  return "tcp://" + host + ":" + (port == 0 ? "*" : std::to_string(port));
}

SetupResult<TcpEndpoint> resolve_endpoint(std::string_view host, std::uint16_t port,
                                          std::string_view option) {
  host = without_brackets(host);
  if (host == "*") return TcpEndpoint{"0.0.0.0", port};
  ::addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  ::addrinfo* found = nullptr;
  const int code =
      host.empty() ? EAI_NONAME : ::getaddrinfo(std::string{host}.c_str(), nullptr, &hints, &found);
  const std::unique_ptr<::addrinfo, FreeAddresses> list{found};
  if (code != 0) {
    // A name server that does not answer yet, as while a machine boots, is worth another try.
    return SetupError{
        code == EAI_AGAIN ? ErrorCode::kUnavailable : ErrorCode::kInvalidArgument,
        std::string{option} + " '" + printable(host) + "' is no address and no known name (" +
            ::gai_strerror(code) +
            "); give an address of this machine, localhost, or 0.0.0.0 for all of them"};
  }
  const ::addrinfo* best = found;
  for (const ::addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (best->ai_family != AF_INET && at->ai_family == AF_INET) best = at;
  }
  std::array<char, NI_MAXHOST> text{};
  if (::getnameinfo(best->ai_addr, best->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
    return invalid(std::string{option} + " '" + printable(host) +
                   "' has no address that can be listened at");
  }
  return TcpEndpoint{text.data(), port};
}

SetupError listen_error(const TcpEndpoint& endpoint, std::string_view option, int sys_errno) {
  const std::string port = std::to_string(endpoint.port);
  std::string text = "cannot listen at " + endpoint.to_url() + ": ";
  switch (sys_errno) {
    case EADDRINUSE:
      text += "port " + port + " is in use; `ss -ltnp 'sport = :" + port +
              "'` shows by which process. Stop that process, or choose another port with " +
              std::string{option};
      break;
    case EADDRNOTAVAIL:
    case ENODEV:
      text +=
          "this machine has no such address; `ip addr` lists those that it has, and 0.0.0.0 is "
          "all of them";
      break;
    case EACCES:
    case EPERM:
      text += "ports below 1024 are for root; choose another one with " + std::string{option};
      break;
    default:
      text += errno_text(sys_errno);
  }
  return SetupError{ErrorCode::kUnavailable, std::move(text)};
}

SetupResult<UniqueFd> listen_at(const TcpEndpoint& endpoint, int backlog, std::string_view option) {
  ::addrinfo hints{};
  hints.ai_family = endpoint.is_ipv6() ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  ::addrinfo* found = nullptr;
  const std::string port = std::to_string(endpoint.port);
  if (::getaddrinfo(endpoint.address.c_str(), port.c_str(), &hints, &found) != 0) {
    return listen_error(endpoint, option, EADDRNOTAVAIL);
  }
  const std::unique_ptr<::addrinfo, FreeAddresses> list{found};
  UniqueFd fd{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  // Not SO_REUSEPORT: two servers could share the port, and each client would reach either.
  const int yes = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(fd.get(), backlog) != 0) {
    return listen_error(endpoint, option, errno);
  }
  return fd;
}

SetupResult<UnixListener> UnixListener::open(const std::string& path, std::string_view option) {
  const UnixName name{path, option};
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      path.find('\0') != std::string::npos) {
    return invalid(name.shown() + "has " + std::to_string(path.size()) +
                   " bytes; a unix socket's path has 1 to 107, none of them zero");
  }
  path.copy(address.sun_path, path.size());
  LARDER_TRY(remove_stale(name, address));
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  // Before bind(), which gives this mode to the name that it makes: at no moment could other users
  // connect.
  if (!fd || ::fchmod(fd.get(), 0600) != 0) return unix_errno(name, "cannot be listened at");
  if (::bind(fd.get(), as_address(address), sizeof address) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return unix_errno(name, "cannot be listened at");
  }
  struct ::stat made{};
  if (::lstat(path.c_str(), &made) != 0) return unix_errno(name, "was removed at once");
  return UnixListener{path, std::move(fd), made.st_dev, made.st_ino};
}

UnixListener::~UnixListener() {
  if (path_.empty()) return;
  struct ::stat found{};
  const bool is_ours =
      ::lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_;
  if (is_ours) ::unlink(path_.c_str());
}

UnixListener::UnixListener(UnixListener&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      fd_(std::move(other.fd_)),
      device_(other.device_),
      inode_(other.inode_) {}

}  // namespace larder::server
