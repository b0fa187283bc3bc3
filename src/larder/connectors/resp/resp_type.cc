// The names and parameters in a spec, and what each is for.
#include <array>

#include "larder/connector/common_parameters.h"
#include "larder/connectors/resp/resp_connector.h"

namespace larder::resp {
namespace {

constexpr std::array kParameters{
    Parameter{.name = "address",
              .help =
                  "What stands after 'redis:': [//][user[:password]@]host[:port][/database], or "
                  "the path of a unix socket after 'unix:'.",
              .is_secret = true,
              .example = "//127.0.0.1:6379"},
    Parameter{.name = "host",
              .help =
                  "The server, in place of an address. Else LARDER_RESP_HOST, LMCACHE_RESP_HOST, "
                  "127.0.0.1."},
    Parameter{.name = "port",
              .kind = ParameterKind::kInteger,
              .minimum = "1",
              .maximum = "65535",
              .help = "Its port. Else LARDER_RESP_PORT, LMCACHE_RESP_PORT, 6379."},
    Parameter{.name = "path",
              .kind = ParameterKind::kPath,
              .help = "Its unix socket, in place of host and port."},
    Parameter{.name = "database",
              .kind = ParameterKind::kInteger,
              .minimum = "0",
              .maximum = "65535",
              .help = "The number of the database (SELECT)."},
    Parameter{.name = "username",
              .help = "The user (AUTH). Else LARDER_RESP_USERNAME, LMCACHE_RESP_USERNAME."},
    Parameter{.name = "password",
              .help = "The password. Other users may see a command line: rather use password_file, "
                      "LARDER_RESP_PASSWORD or LMCACHE_RESP_PASSWORD.",
              .is_secret = true},
    Parameter{.name = "password_file",
              .kind = ParameterKind::kPath,
              .help = "A file that holds the password. Else LARDER_RESP_PASSWORD_FILE. It and the "
                      "tls_ files are read again for new connections."},
    Parameter{.name = "tls",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help = "Encrypt, and verify the server's certificate; always with rediss:."},
    Parameter{
        .name = "tls_ca",
        .kind = ParameterKind::kPath,
        .help = "PEM file of the CA certificates to trust; without it what the system trusts."},
    Parameter{.name = "tls_certificate",
              .kind = ParameterKind::kPath,
              .help = "PEM file of the certificate to show to the server."},
    Parameter{.name = "tls_key", .kind = ParameterKind::kPath, .help = "PEM file of its key."},
    Parameter{.name = "tls_server_name",
              .help = "The name that the server's certificate must be for, where it is not the "
                      "host."},
    Parameter{.name = "prefix",
              .help = "Put before every key. Without it keys are as LMCache's resp writes them."},
    Parameter{.name = "ttl",
              .kind = ParameterKind::kDuration,
              .default_text = "0",
              .help = "How long a value stays on the server after its store; 0 is for ever."},
    Parameter{
        .name = "connections",
        .kind = ParameterKind::kInteger,
        .minimum = "1",
        .maximum = "256",
        .help = "Connections for values; one more is for small operations. Else num_workers."},
    Parameter{.name = "num_workers",
              .kind = ParameterKind::kInteger,
              .default_text = "8",
              .minimum = "1",
              .maximum = "256",
              .help = "LMCache's name for connections."},
    Parameter{.name = "pipeline",
              .kind = ParameterKind::kBytes,
              .default_text = "256KiB",
              .minimum = "1",
              .maximum = "1GiB",
              .help = "Value bytes that one connection has on the way at once; a value that is "
                      "larger goes alone."},
    Parameter{.name = "connect_timeout",
              .kind = ParameterKind::kDuration,
              .default_text = "2s",
              .minimum = "1ms",
              .maximum = "10m",
              .help = "For a connection, its encryption and its greeting together."},
    Parameter{.name = "timeout",
              .kind = ParameterKind::kDuration,
              .default_text = "5s",
              .minimum = "1ms",
              .maximum = "1h",
              .help = "A connection that waits for so long without a byte either way is closed."},
    Parameter{.name = "reconnect_max",
              .kind = ParameterKind::kDuration,
              .default_text = "2s",
              .minimum = "10ms",
              .maximum = "10m",
              .help = "The longest wait between two attempts to connect; the first is 10ms."},
    Parameter{.name = "info_interval",
              .kind = ParameterKind::kDuration,
              .default_text = "5s",
              .minimum = "10ms",
              .maximum = "1h",
              .help = "How often the server is asked for its state (INFO) for the report."},
    kMissAfterFailureParameter,
    Parameter{.name = "max_value",
              .kind = ParameterKind::kBytes,
              .default_text = "512MiB",
              .minimum = "1",
              .maximum = "1GiB",
              .help =
                  "The largest value that is stored; the server's proto-max-bulk-len must allow "
                  "it."},
    Parameter{.name = "max_capacity_gb",
              .default_text = "0",
              .help =
                  "GiB of values that this process may store, as in 20 or 0.5; beyond it stores "
                  "fail. What others stored does not count. 0 is no limit."},
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& type,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  LARDER_ASSIGN(RespOptions options, options_of(parameters, type.name));
  return open_connector(std::move(options));
}

constexpr auto kMetrics = std::to_array<MetricRow>({
    {"server_used_memory_bytes", MetricKind::kGauge, "What the server says of its memory."},
    {"server_maxmemory_bytes", MetricKind::kGauge, "The server's own limit; 0: none."},
    {"server_evicted_keys", MetricKind::kGauge, "Keys that the server evicted since its start."},
    {"server_expired_keys", MetricKind::kGauge, "Keys that expired there since its start."},
    {"server_keys", MetricKind::kGauge, "Keys of the database, everybody's."},
    {"stored_by_me_keys", MetricKind::kGauge,
     "Keys that this store wrote and that count for max_capacity_gb."},
    {"stored_by_me_bytes", MetricKind::kGauge, "Bytes of their values."},
    {"stored_by_me_uncounted_total", MetricKind::kCounter,
     "Keys that this store wrote and that do not count, as the table of them was full."},
    {"stored_by_me_asked_for_total", MetricKind::kCounter,
     "Of these keys, how many were looked up to see whether they are still there."},
    {"stored_by_me_found_gone_total", MetricKind::kCounter, "And how many of these were not."},
    {"sets_over_capacity_total", MetricKind::kCounter,
     "Stores that were refused, as max_capacity_gb was reached."},
    {"size_mismatches_total", MetricKind::kCounter, "Loads of another size than the value's."},
    {"values_too_large_total", MetricKind::kCounter, "Values that no load can take."},
    {"error_replies_total", MetricKind::kCounter, "Errors that the server answered with."},
    {"connections_lost_total", MetricKind::kCounter, "Connections that ended by themselves."},
    {"connections_renewed_total", MetricKind::kCounter,
     "Connections that were closed to look the server's name up again."},
    {"retries_total", MetricKind::kCounter, "Commands that were sent a second time."},
    {"connections", MetricKind::kGauge, "Connections that are open."},
    {"connect_failures_total", MetricKind::kCounter, "Attempts to connect that failed."},
});

constexpr ConnectorType make_type(std::string_view name, std::string_view summary,
                                  std::string_view example) {
  return {.name = name,
          .summary = summary,
          .example = example,
          .location_parameter = "address",
          .parameters = kParameters,
          .metrics = kMetrics,
          .open = open};
}

constexpr std::array kTypes{
    make_type("resp", "A Redis or Valkey server; keys and values are those of LMCache's resp.",
              "resp:127.0.0.1:6379?max_capacity_gb=20"),
    make_type("redis", "The same as resp, by the URL that Redis' own tools use.",
              "redis://127.0.0.1:6379/0?password_file=/run/secrets/redis"),
    make_type("rediss", "The same as resp, with TLS.",
              "rediss://cache.example:6380?tls_ca=/etc/ssl/redis-ca.pem"),
    make_type("valkey", "The same as redis, by the URL that Valkey's own tools use.",
              "valkey://127.0.0.1:6379"),
    make_type("valkeys", "The same as rediss: with TLS.", "valkeys://cache.example:6380"),
    make_type("unix", "The same as resp, over a unix socket.", "unix:/run/redis/redis-server.sock"),
};

}  // namespace

std::span<const ConnectorType> connector_types() {
  return kTypes;
}

}  // namespace larder::resp
