#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/parameters.h"
#include "larder/connector/peer_state.h"
#include "larder/connectors/resp/address.h"
#include "larder/connectors/resp/tls_stream.h"

namespace larder::resp {

struct RespOptions {
  Endpoint endpoint;
  std::string username;
  std::string password;       ///< Empty: the server wants none. Never shown.
  std::string password_file;  ///< Its source; empty: unknown.
  std::uint32_t database = 0;
  std::optional<TlsOptions> tls;

  std::string prefix;        ///< Prefix of every key.
  std::uint64_t ttl_ms = 0;  ///< 0: values stay.
  std::uint64_t value_bytes_max = std::uint64_t{512} << 20;
  std::uint64_t capacity_bytes = 0;  ///< Bound of what this process stores; 0: none.

  std::uint32_t connections = 8;  ///< For values; one more is for small operations.
  /// Value bytes that a connection may have in flight; one value always may.
  std::uint64_t pipeline_bytes = std::uint64_t{256} << 10;
  std::uint64_t connect_timeout_ns = 2'000'000'000;
  std::uint64_t timeout_ns = 5'000'000'000;  ///< Longest time without a byte in either direction.
  std::uint64_t info_interval_ns = 5'000'000'000;
  std::uint64_t miss_after_failure_ns = 30'000'000'000;
  ReconnectOptions reconnect;
  BatchLimitOptions limits;

  /// The server's name in reports and the log: "cache:6379/2". Has no secret.
  std::string where() const;
};

/// From a spec's parameters and, for those that it leaves out, the environment: LARDER_RESP_HOST,
/// _PORT, _USERNAME, _PASSWORD, _PASSWORD_FILE, then LMCache's LMCACHE_RESP_HOST, _PORT, _USERNAME,
/// _PASSWORD. `type` is the name that the spec uses. No error shows a secret.
SetupResult<RespOptions> options_of(const Parameters& parameters, std::string_view type);

/// The text between the type and '?': "//user:password@host:port/2", "host:port", or for `unix` the
/// path of a socket. Sets the fields that it contains.
SetupStatus read_address(std::string_view address, std::string_view type, RespOptions& options,
                         bool& has_host, bool& has_port);

}  // namespace larder::resp
