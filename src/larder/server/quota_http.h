#pragma once

#include <functional>
#include <string>
#include <utility>

#include "larder/server/admin_mailbox.h"
#include "larder/server/http_routes.h"
#include "larder/server/quotas.h"

namespace larder::server {

/// The routes of `/quota` and `/quota/SALT` (S28), as LMCache's server and its command `lmcache
/// quota` have them. GET reads; PUT and DELETE change and need a token (S29).
///
/// Ownership: everything that it is given outlives it.
/// Threads: any; HTTP threads call it. A change blocks on the disk, and all wait for the loop, for
///   five seconds at most.
class QuotaHttp {
 public:
  /// `on_change` is called after each change.
  QuotaHttp(Quotas& quotas, AdminMailbox& mailbox, std::function<void()> on_change)
      : quotas_(quotas), mailbox_(mailbox), on_change_(std::move(on_change)) {}

  /// This outlives the routes.
  void add_to(HttpRoutes& routes);

 private:
  HttpReply get_all(const HttpRequest& request);
  HttpReply get_one(const HttpRequest& request);
  HttpReply put(const HttpRequest& request);
  HttpReply remove(const HttpRequest& request);
  AdminAnswer ask(AdminCommand command);

  Quotas& quotas_;
  AdminMailbox& mailbox_;
  std::function<void()> on_change_;
};

}  // namespace larder::server
