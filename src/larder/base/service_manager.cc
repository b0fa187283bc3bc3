#include "larder/base/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>

#include "larder/base/key_text.h"
#include "larder/base/unique_fd.h"

namespace larder {
namespace {

constexpr ::timeval kPatience{.tv_sec = 5, .tv_usec = 0};

SetupError not_told(const std::string& address, const std::string& trouble) {
  return {ErrorCode::kUnavailable, "the service manager at NOTIFY_SOCKET=" + printable(address) +
                                       " cannot be told how the process is: " + trouble};
}

}  // namespace

SetupStatus notify_service_manager(std::string_view state) {
  const char* const variable = std::getenv("NOTIFY_SOCKET");
  if (variable == nullptr || *variable == '\0') return {};
  const std::string address = variable;
  ::sockaddr_un manager{};
  manager.sun_family = AF_UNIX;
  const bool is_abstract = address.front() == '@';
  if (address.size() < 2 || (address.front() != '/' && !is_abstract)) {
    return not_told(address, "it is neither a path nor @ and a name");
  }
  if (address.size() >= sizeof manager.sun_path) return not_told(address, "the name is too long");
  address.copy(manager.sun_path, address.size());
  if (is_abstract) manager.sun_path[0] = '\0';  // An abstract name has no terminating zero either.
  const auto bytes = static_cast<::socklen_t>(offsetof(::sockaddr_un, sun_path) + address.size() +
                                              (is_abstract ? 0 : 1));
  const UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (!socket) return not_told(address, errno_text(errno));
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  ::ssize_t sent = 0;
  do {
    sent = ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const ::sockaddr*>(&manager), bytes);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return not_told(address, errno_text(errno));
  return {};
}

}  // namespace larder
