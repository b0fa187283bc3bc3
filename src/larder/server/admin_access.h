#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "larder/base/result.h"
#include "larder/server/endpoint.h"
#include "larder/server/options.h"

namespace larder::server {

/// Which clients of the admin HTTP may change state (S29): those with the token of
/// --admin-token-file, with --admin-open all that reach a loopback address, else none.
class AdminAccess {
 public:
  /// `bound` is where the HTTP listens. Reads the token's file. An error names the option, the
  /// fault, and the remedy: --admin-open on an address that other machines can reach, or a file
  /// without a usable token.
  static SetupResult<AdminAccess> open(const ServerOptions& options, const TcpEndpoint& bound);

  /// `authorization` is the value of that header; empty: there is none. Takes the same time for
  /// every wrong token of the same length.
  bool allows(std::string_view authorization) const noexcept;
  /// Why a request with this header is refused, with the remedy: the detail of a 401.
  const char* refusal(std::string_view authorization) const noexcept;

 private:
  AdminAccess(bool is_open, std::string token) noexcept
      : is_open_(is_open), token_(std::move(token)) {}

  bool is_open_;
  std::string token_;  ///< Empty: none.
};

/// "token", "open" or "read_only": the value in /status.
std::string_view admin_access_name(const ServerOptions& options) noexcept;

}  // namespace larder::server
