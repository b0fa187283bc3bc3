#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/registry.h"
#include "larder/server/options.h"

namespace larder::server {

/// Where a server listens, and what it offers.
struct ServerAddress {
  std::uint16_t port = 0;
  std::uint16_t http_port = 0;  ///< 0: no HTTP.
  std::string pool;             ///< Name in /dev/shm; empty: none.
};

/// What was left at the end.
struct DrainReport {
  std::uint64_t cells_lost = 0;  ///< Wanted by some connector, and not stored.
  std::uint64_t bytes_lost = 0;
  bool is_clean() const noexcept { return cells_lost == 0; }
};

/// Runs a server in the calling thread until `stop` becomes true (S12, S32): opens the pool, the
/// connectors and the sockets, says through `on_listening` where it listens, and drains at the end.
/// `stop` is looked at at least four times a second, and whenever `wake_fd` (-1: none) is readable.
/// Call it before other threads exist: it starts a helper process.
SetupResult<DrainReport> run_server(const ServerOptions& options, const Registry& registry,
                                    const std::atomic<bool>& stop, int wake_fd,
                                    const std::function<void(const ServerAddress&)>& on_listening);

}  // namespace larder::server
