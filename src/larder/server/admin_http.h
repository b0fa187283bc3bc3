#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/server/admin_mailbox.h"
#include "larder/server/options.h"
#include "larder/server/quotas.h"
#include "larder/server/status_board.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

/// The HTTP side (S28, S29): the server's state, its configuration, metrics (S30), the page (S31)
/// and the commands that change the cache, in the shapes that LMCache's own commands and SDK read;
/// docs/server.md lists the paths. Reads the board, asks the mailbox and the scans of the tiers,
/// and never touches the service.
///
/// GET changes nothing. A request that changes state needs the token of --admin-token-file, or
/// --admin-open, or the unix socket.
/// For limits and access see HttpServer.
class AdminHttp {
 public:
  /// The sources of its answers, which outlive it.
  struct Parts {
    StatusBoard& board;
    AdminMailbox& mailbox;
    TierScans& scans;
    Quotas& quotas;
    std::function<void()> on_quotas = [] {};  ///< Called after each change of one, on any thread.
  };
  /// Serves at --http-port, at --admin-socket, or at both. Listens when it returns. `options` are
  /// copied.
  static SetupResult<std::unique_ptr<AdminHttp>> open(const ServerOptions& options,
                                                      const std::string& pool_name, Parts parts);
  /// The same at --metrics-host and --metrics-port, which is set, and `/metrics` alone.
  static SetupResult<std::unique_ptr<AdminHttp>> open_metrics(const ServerOptions& options,
                                                              StatusBoard& board);
  /// Ends the threads; requests that are being answered have a second. Close board and mailbox
  /// before, or they may wait for the loop for seconds.
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

  /// 0: there is only the unix socket.
  std::uint16_t port() const noexcept;

 private:
  class Impl;
  explicit AdminHttp(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder::server
