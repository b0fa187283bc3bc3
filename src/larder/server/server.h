#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/registry.h"
#include "larder/server/options.h"

namespace larder::server {

/// Where a server listens, and the memory that it offers.
struct ServerAddress {
  std::uint16_t port = 0;
  std::uint16_t http_port = 0;     ///< 0: no HTTP.
  std::uint16_t metrics_port = 0;  ///< 0: no port of its own.
  std::string pool;                ///< Name in /dev/shm; empty: none.
};

/// Leftovers at the end.
struct DrainReport {
  std::uint64_t cells_lost = 0;  ///< Wanted by some connector, and not stored.
  std::uint64_t bytes_lost = 0;  ///< Of L1, in whole grains.
  bool is_clean() const noexcept { return cells_lost == 0; }
};

/// Runs a server in the calling thread until `stop` becomes true (S12, S32): opens the pool, the
/// connectors and the sockets, says through `on_listening` where it listens, and drains at the end.
/// A service manager (NOTIFY_SOCKET) is told when clients may connect and when the drain begins.
///
/// `options` are valid (validate()). `stop` is looked at whenever `wake_fd` is readable, which is
/// then read; without one (-1) four times a second.
/// Call it before other threads exist: it starts a helper process. Connectors are opened after
/// that, so the code that they load may start threads. Raises the soft limit of descriptors. A
/// connector that does not stop in time is never destroyed, and neither is the memory that its
/// device or peer may write to: the process is to end then.
SetupResult<DrainReport> run_server(const ServerOptions& options, const Registry& registry,
                                    const std::atomic<bool>& stop, int wake_fd,
                                    const std::function<void(const ServerAddress&)>& on_listening);

}  // namespace larder::server
