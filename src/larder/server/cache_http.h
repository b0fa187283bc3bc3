#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "larder/server/admin_mailbox.h"
#include "larder/server/http_routes.h"
#include "larder/server/status_board.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

/// The routes of /cache/*: clear, delete, list, prefetch and checksums.
///
/// The threads of HTTP and of TierScans parse, hash and scan; the loop gets commands that are ready
/// to run.
/// Ownership: everything that it is given outlives it. Threads: any.
class CacheHttp {
 public:
  CacheHttp(StatusBoard& board, AdminMailbox& mailbox, TierScans& scans)
      : board_(board), mailbox_(mailbox), scans_(scans) {}

  /// This outlives the routes.
  void add_to(HttpRoutes& routes);

 private:
  /// A tier of the server.
  struct TierPlace {
    std::size_t index = 0;
    std::string name;
    bool is_shared = false;
    bool has_scan = false;
  };

  HttpReply clear(const HttpRequest& request);
  HttpReply checksums(const HttpRequest& request);
  HttpReply remove(const HttpRequest& request);
  HttpReply list(const HttpRequest& request);
  HttpReply prefetch(const HttpRequest& request);
  HttpReply prefetch_status(const HttpRequest& request);

  /// Waits for the answer until `until_ns`.
  AdminAnswer carry_out(AdminCommand command, std::uint64_t until_ns);
  Result<std::vector<TierPlace>, AdminError> tiers();
  /// The one of that name; the first where there is no name.
  Result<TierPlace, AdminError> find_tier(const std::optional<std::string>& name);
  Result<TierScans::Page, AdminError> read_page(const TierPlace& tier, const ObjectFilter& filter,
                                                ScanCursor from, std::size_t page_size);

  StatusBoard& board_;
  AdminMailbox& mailbox_;
  TierScans& scans_;
};

}  // namespace larder::server
