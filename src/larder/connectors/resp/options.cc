#include "larder/connectors/resp/options.h"

#include <sys/un.h>

#include <cstdlib>

#include "larder/base/size_text.h"
#include "larder/connector/common_parameters.h"
#include "larder/connectors/resp/secret_files.h"

namespace larder::resp {
namespace {

constexpr double kGibibyte = 1024.0 * 1024 * 1024;
constexpr double kGibibytesMax = 1e9;

SetupError invalid(std::string_view type, std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::string{type} + ": " + std::move(text)};
}

struct Variable {
  std::string name;
  std::string value;
};

/// larder's own variable first, then LMCache's.
std::optional<Variable> variable(const char* name) {
  for (const char* const prefix : {"LARDER_RESP_", "LMCACHE_RESP_"}) {
    std::string full = std::string{prefix} + name;
    const char* const value = std::getenv(full.c_str());
    if (value != nullptr && *value != '\0') return Variable{std::move(full), value};
  }
  return std::nullopt;
}

std::optional<std::string> environment(const char* name) {
  auto found = variable(name);
  return found ? std::optional{std::move(found->value)} : std::nullopt;
}

/// `given` names the parameter or the variable that holds `host`.
SetupStatus check_host(std::string_view type, std::string_view given, const std::string& host) {
  // The text before an '@' may be a password.
  const std::string shown = std::string{given} + "=" + host.substr(host.rfind('@') + 1);
  if (host.find('/') != std::string::npos || host.find('@') != std::string::npos) {
    return invalid(type, shown +
                             " is not a host: give its name or IP address alone, for example "
                             "cache.example");
  }
  const std::size_t colon = host.find(':');
  if (colon != std::string::npos && colon == host.rfind(':')) {  // An IPv6 address has two.
    return invalid(type, shown + " has a port in it: give the host as " + host.substr(0, colon) +
                             ", and the port as port=" + host.substr(colon + 1));
  }
  return {};
}

/// Kubernetes sets LARDER_RESP_PORT for a service of the name larder-resp.
SetupError not_a_port(std::string_view type, const Variable& port) {
  std::string text = port.name + "=" + port.value +
                     " in the environment is not a port: it must be a number from 1 to 65535";
  if (port.value.starts_with("tcp://")) {
    text +=
        "; Kubernetes sets it for a service of that name: give the port in the spec, or set "
        "enableServiceLinks: false for the pod";
  }
  return invalid(type, std::move(text));
}

SetupResult<std::uint16_t> read_port(std::string_view type, std::string_view text) {
  const auto number = parse_integer(text);
  if (!number || *number < 1 || *number > 65'535) {
    return invalid(type, "the port must be a number from 1 to 65535, for example 6379");
  }
  return static_cast<std::uint16_t>(*number);
}

SetupStatus read_secrets(const Parameters& parameters, std::string_view type,
                         RespOptions& options) {
  if (parameters.has("username")) options.username = parameters.text("username");
  if (parameters.has("password")) options.password = parameters.text("password");
  if (options.username.empty()) options.username = environment("USERNAME").value_or("");
  if (parameters.has("password_file")) {
    if (!options.password.empty()) {
      return invalid(type, "a password and password_file are both given; leave one out");
    }
    options.password_file = parameters.text("password_file");
    LARDER_ASSIGN(options.password,
                  read_password_file(type, "password_file", options.password_file));
  }
  if (options.password.empty()) {
    const char* const own = std::getenv("LARDER_RESP_PASSWORD");
    const char* const file = std::getenv("LARDER_RESP_PASSWORD_FILE");
    const bool has_own = own != nullptr && *own != '\0';
    if (!has_own && file != nullptr && *file != '\0') {
      options.password_file = file;
      LARDER_ASSIGN(options.password,
                    read_password_file(type, "LARDER_RESP_PASSWORD_FILE", options.password_file));
    } else {
      options.password = environment("PASSWORD").value_or("");
    }
  }
  if (options.password.empty() && !options.username.empty()) {
    return invalid(type,
                   "a user name without a password; give password_file, or "
                   "LARDER_RESP_PASSWORD in the environment");
  }
  return {};
}

SetupStatus read_endpoint(const Parameters& parameters, std::string_view type,
                          RespOptions& options) {
  bool has_host = false;
  bool has_port = false;
  if (parameters.has("address")) {
    LARDER_TRY(read_address(parameters.text("address"), type, options, has_host, has_port));
  }
  if (parameters.has("path")) {
    if (has_host || !options.endpoint.path.empty()) {
      return invalid(type, "an address and path are both given; leave one out");
    }
    options.endpoint.path = parameters.text("path");
  }
  if (options.endpoint.path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return invalid(type,
                   "the path of the unix socket is longer than the 107 bytes that the system "
                   "allows; use a shorter one");
  }
  if (parameters.has("host")) {
    if (has_host || !options.endpoint.path.empty()) {
      return invalid(type, "an address and host are both given; leave one out");
    }
    options.endpoint.host = parameters.text("host");
    LARDER_TRY(check_host(type, "host", options.endpoint.host));
    has_host = true;
  }
  if (parameters.has("port")) {
    if (has_port) return invalid(type, "the port is given twice; leave one out");
    options.endpoint.port = static_cast<std::uint16_t>(parameters.integer("port"));
    has_port = true;
  }
  if (!options.endpoint.path.empty()) return {};
  if (type == "unix") {
    return invalid(type,
                   "the path of the socket is missing; write for example "
                   "unix:/run/redis/redis-server.sock");
  }
  if (!has_host) {
    const Variable host = variable("HOST").value_or(Variable{"", "127.0.0.1"});
    LARDER_TRY(check_host(type, host.name, host.value));
    options.endpoint.host = host.value;
  }
  if (const auto port = variable("PORT"); port && !has_port) {
    const auto number = read_port(type, port->value);
    if (!number) return not_a_port(type, *port);
    options.endpoint.port = *number;
  }
  if (options.endpoint.host.empty()) return invalid(type, "the host must not be empty");
  return {};
}

SetupStatus read_capacity(const Parameters& parameters, std::string_view type,
                          RespOptions& options) {
  // LMCache writes 0.5 and 20 alike.
  const std::string& text = parameters.text("max_capacity_gb");
  char* end = nullptr;
  const double gibibytes = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(gibibytes >= 0) || gibibytes > kGibibytesMax) {
    return invalid(type,
                   "max_capacity_gb must be a number of GiB, for example 20 or 0.5; 0 is no "
                   "limit");
  }
  options.capacity_bytes = static_cast<std::uint64_t>(gibibytes * kGibibyte);
  return {};
}

std::string decoded(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      result += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

/// "user:password", each percent-encoded once more than the spec itself, because '@', ':' and '/'
/// would otherwise be read as the address's own.
void read_user(std::string_view text, RespOptions& options) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  options.username = decoded(text.substr(0, colon));
  if (colon < text.size()) options.password = decoded(text.substr(colon + 1));
}

struct HostAndPort {
  std::string_view host = {};
  std::string_view port = {};  ///< With its ':'.
};

SetupResult<HostAndPort> split_host(std::string_view text, std::string_view type) {
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return invalid(type, "an IPv6 address ends with ']'");
    const HostAndPort parts{.host = text.substr(1, end - 1), .port = text.substr(end + 1)};
    if (parts.port.empty() || parts.port.starts_with(':')) return parts;
    return invalid(type, "after ']' stands ':' and the port");
  }
  const std::size_t colon = std::min(text.find(':'), text.size());
  if (text.find(':', colon + 1) != std::string_view::npos) {
    return invalid(type, "an IPv6 address stands in brackets, for example redis://[::1]:6379");
  }
  return HostAndPort{.host = text.substr(0, colon), .port = text.substr(colon)};
}

}  // namespace

std::string RespOptions::where() const {
  return endpoint.to_string() + (database == 0 ? "" : "/" + std::to_string(database));
}

SetupStatus read_address(std::string_view address, std::string_view type, RespOptions& options,
                         bool& has_host, bool& has_port) {
  if (type == "unix" || (address.starts_with('/') && !address.starts_with("//"))) {
    while (address.starts_with("//")) address.remove_prefix(1);
    if (!address.starts_with('/')) {
      return invalid(type,
                     "expected the absolute path of a socket, for example "
                     "unix:/run/redis/redis-server.sock");
    }
    options.endpoint.path = std::string{address};
    return {};
  }
  if (address.starts_with("//")) address.remove_prefix(2);
  if (const std::size_t at = address.rfind('@'); at != std::string_view::npos) {
    read_user(address.substr(0, at), options);
    address.remove_prefix(at + 1);
  }
  const std::size_t slash = std::min(address.find('/'), address.size());
  if (slash + 1 < address.size()) {
    const auto number = parse_integer(address.substr(slash + 1));
    if (!number || *number < 0 || *number > 65'535) {
      return invalid(type,
                     "after the host and '/' stands the number of a database, for example "
                     "redis://127.0.0.1:6379/2");
    }
    options.database = static_cast<std::uint32_t>(*number);
  }
  LARDER_ASSIGN(const HostAndPort parts, split_host(address.substr(0, slash), type));
  has_port = !parts.port.empty();
  has_host = !parts.host.empty();
  if (has_port) {
    LARDER_ASSIGN(options.endpoint.port, read_port(type, parts.port.substr(1)));
  }
  if (has_host) options.endpoint.host = std::string{parts.host};
  return {};
}

SetupResult<RespOptions> options_of(const Parameters& parameters, std::string_view type) {
  RespOptions options;
  LARDER_TRY(read_endpoint(parameters, type, options));
  LARDER_TRY(read_secrets(parameters, type, options));
  LARDER_TRY(read_capacity(parameters, type, options));
  if (parameters.has("database")) {
    if (options.database != 0) return invalid(type, "the database is given twice; leave one out");
    options.database = static_cast<std::uint32_t>(parameters.integer("database"));
  }
  if (type == "rediss" || type == "valkeys" || parameters.flag("tls")) {
    if (!options.endpoint.path.empty()) {
      return invalid(type, "TLS over a unix socket is not supported; leave tls out");
    }
    options.tls = TlsOptions{.ca_file = parameters.text("tls_ca"),
                             .certificate_file = parameters.text("tls_certificate"),
                             .key_file = parameters.text("tls_key"),
                             .server_name = parameters.has("tls_server_name")
                                                ? parameters.text("tls_server_name")
                                                : options.endpoint.host};
    if (options.tls->certificate_file.empty() != options.tls->key_file.empty()) {
      return invalid(type, "tls_certificate and tls_key go together; give both or none");
    }
  } else if (parameters.has("tls_ca") || parameters.has("tls_certificate") ||
             parameters.has("tls_key")) {
    return invalid(type,
                   "TLS files are given but TLS is not asked for; write rediss:// or tls=yes");
  }

  options.prefix = parameters.text("prefix");
  options.ttl_ms = parameters.duration_ns("ttl") / 1'000'000;
  options.value_bytes_max = parameters.bytes("max_value");
  if (parameters.has("connections")) {
    options.connections = static_cast<std::uint32_t>(parameters.integer("connections"));
  } else if (parameters.has("num_workers")) {
    options.connections = static_cast<std::uint32_t>(parameters.integer("num_workers"));
  }
  options.pipeline_bytes = parameters.bytes("pipeline");
  options.connect_timeout_ns = parameters.duration_ns("connect_timeout");
  options.timeout_ns = parameters.duration_ns("timeout");
  options.info_interval_ns = parameters.duration_ns("info_interval");
  options.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  options.reconnect.max_ns = parameters.duration_ns("reconnect_max");
  options.limits = batch_limits_of(parameters);
  return options;
}

}  // namespace larder::resp
