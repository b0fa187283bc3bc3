#include "larder/server/flood_guard.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "larder/base/logging.h"
#include "larder/base/unique_fd.h"
#include "larder/server/tcp_socket.h"

namespace larder::server {
namespace {

/// Looks after a connection was shut.
constexpr int kTrims = 40;
/// Up to here the unfinished messages of all connections are usual traffic.
constexpr std::uint64_t kCalmBytes = std::uint64_t{1} << 20;

/// The private memory of the process; shared memory, such as the pool, does not count. 0: unknown.
std::uint64_t private_bytes() noexcept {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{
      std::fopen("/proc/self/statm", "re"), [](std::FILE* f) { return std::fclose(f); }};
  unsigned long size = 0;
  unsigned long resident = 0;
  unsigned long shared = 0;
  if (file == nullptr || std::fscanf(file.get(), "%lu %lu %lu", &size, &resident, &shared) != 3) {
    return 0;
  }
  return (resident - std::min(resident, shared)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

FloodGuard::FloodGuard(ConnectionTable& table) : table_(table), calm_bytes_(private_bytes()) {}

bool FloodGuard::look(std::uint16_t port, bool is_drained) noexcept {
  // libzmq returns the memory of closed connections to malloc(), which keeps it. Millions of short
  // frames take libzmq some seconds.
  if (trims_left_ > 0) {
    --trims_left_;
    ::malloc_trim(0);
  }
  Held most;
  std::uint64_t held = 0;
  std::uint64_t unexpected = 0;
  table_.for_each_socket([&](int fd) {
    const std::optional<std::uint64_t> received = tcp_bytes_received(fd);
    if (!received) return;
    const Held one{fd, table_.unfinished_bytes(fd, *received, is_drained)};
    const std::uint64_t beyond = one.bytes - std::min(one.bytes, table_.expected_bytes(fd));
    held += one.bytes;
    unexpected += beyond;
    if (one.bytes > most.bytes) most = one;
    if (beyond > kConnectionBytes) {
      shut(port, one, "it has sent more than 64 MiB of a message without an end");
    }
  });
  if (unexpected > kTotalBytes || held > kHeldBytes) {
    shut(port, most, "messages without an end hold too much, most of it of this one");
  }
  look_at_memory(port, most, held);
  return table_.sockets() != 0 || trims_left_ > 0;
}

void FloodGuard::look_at_memory(std::uint16_t port, const Held& most, std::uint64_t held) noexcept {
  const std::uint64_t now_bytes = private_bytes();
  if (held <= kCalmBytes) {
    calm_bytes_ = now_bytes;
  } else if (now_bytes > calm_bytes_ + 2 * held + kMemoryBytes) {
    shut(port, most, "its message without an end has so many frames that they fill the memory");
  }
}

void FloodGuard::shut(std::uint16_t port, const Held& held, const char* why) noexcept {
  // libzmq may close the socket at any time, and the number may be another socket's then. A copy of
  // the descriptor cannot change; whether it is the right one, it says itself.
  const UniqueFd socket{::fcntl(held.fd, F_DUPFD_CLOEXEC, 0)};
  const std::optional<std::uint64_t> received = tcp_bytes_received(socket.get());
  const bool is_it = received && local_port_of(socket.get()) == port &&
                     table_.unfinished_bytes(held.fd, *received, true) >= held.bytes;
  if (!is_it || ::shutdown(socket.get(), SHUT_RDWR) != 0) return;
  table_.note_shut(held.fd);
  ++connections_shut_;
  trims_left_ = kTrims;
  log(LogLevel::kWarning, "server", std::string{"a connection was shut: "} + why);
}

}  // namespace larder::server
