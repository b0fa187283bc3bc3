#include "larder/server/options.h"

#include <algorithm>

#include "larder/base/size_text.h"
#include "larder/cache/arena/arena.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

constexpr std::string_view kPoolPrefix = "lmcache_l1_pool_";
constexpr std::size_t kSocketPathBytesMax = 107;  ///< sun_path, without its NUL.
constexpr std::uint64_t kReapNsMin = 30'000'000'000;

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

SetupStatus check_socket_path(const char* option, const std::string& path) {
  if (path.size() <= kSocketPathBytesMax) return {};
  return wrong(std::string{option} + " has " + std::to_string(path.size()) +
               " characters; a unix socket's path has at most " +
               std::to_string(kSocketPathBytesMax) + ", so choose a shorter one");
}

SetupStatus check_addresses(const ServerOptions& options) {
  if (options.host.empty()) return wrong("--host is empty; give an address, as in 127.0.0.1");
  if (options.has_http && options.http_host.empty()) {
    return wrong("--http-host is empty; give an address, as in 127.0.0.1, or --no-http");
  }
  if (options.has_http && options.port != 0 && options.port == options.http_port) {
    return wrong("--port and --http-port are both " + std::to_string(options.port) +
                 "; give HTTP another one");
  }
  if (options.is_admin_open && !options.admin_token_file.empty()) {
    return wrong("--admin-open and --admin-token-file exclude each other; leave one out");
  }
  if (!options.has_http && (options.is_admin_open || !options.admin_token_file.empty())) {
    return wrong(
        "--admin-open and --admin-token-file are of the HTTP side, which --no-http leaves out; "
        "leave out either");
  }
  if (options.metrics_port && options.metrics_host.empty()) {
    return wrong("--metrics-host is empty; give an address, as in 127.0.0.1");
  }
  if (!options.admin_socket.empty() && options.admin_socket == options.ipc_path) {
    return wrong("--admin-socket and --ipc-path are both " + options.ipc_path +
                 "; give HTTP another one");
  }
  LARDER_TRY(check_socket_path("--admin-socket", options.admin_socket));
  return check_socket_path("--ipc-path", options.ipc_path);
}

SetupStatus check_memory(const ServerOptions& options) {
  if (options.l1_bytes == 0) {
    return wrong(
        "--l1-size-gb is missing: the memory for L1 in GiB, as in --l1-size-gb 8. It can also "
        "stand "
        "in larder.toml as l1_size_gb and in the environment as LARDER_L1_SIZE_GB");
  }
  cache::ArenaOptions arena;
  arena.capacity_bytes = options.l1_bytes;
  arena.grain_bytes = options.l1_align_bytes;
  if (options.has_pool) {
    arena.kind = cache::ArenaKind::kShared;
    arena.name = pool_name(options, options.port);
  }
  if (const SetupStatus checked = arena.validate(); !checked) {
    return wrong("--l1-size-gb, --l1-align-bytes, --shm-name: " + checked.error().text);
  }
  return {};
}

SetupStatus check_tokens(const ServerOptions& options) {
  if (options.chunk_tokens >= 1 && options.chunk_tokens <= wire::limits::kChunkTokens) return {};
  return wrong("--chunk-size is " + std::to_string(options.chunk_tokens) +
               "; it must be from 1 to " + std::to_string(wire::limits::kChunkTokens) + " tokens");
}

SetupStatus check_workers(const ServerOptions& options) {
  if (options.worker_reap_ns == 0) return {};
  if (options.worker_reap_ns < kReapNsMin) {
    return wrong("--worker-reap-timeout-seconds is " +
                 format_duration_exact(options.worker_reap_ns) +
                 "; give 0 (never) or at least 30, three heartbeats of a worker");
  }
  if (options.worker_grace_ns < options.worker_reap_ns) {
    return wrong(
        "--worker-registration-grace-seconds is " + format_duration_exact(options.worker_grace_ns) +
        ", below --worker-reap-timeout-seconds, " + format_duration_exact(options.worker_reap_ns) +
        "; a worker that is still starting needs at least as long");
  }
  return {};
}

SetupStatus check_adapters(const ServerOptions& options) {
  const auto& adapters = options.l2_adapters;
  if (adapters.size() > kL2AdaptersMax) {
    return wrong("--l2-adapter is given " + std::to_string(adapters.size()) +
                 " times; a server has at most " + std::to_string(kL2AdaptersMax));
  }
  if (!options.engine.skip_l1) return {};
  if (std::ranges::none_of(adapters, [](const auto& one) { return one.options.store; })) {
    return wrong(
        "--l2-store-policy skip_l1 drops from L1 what an L2 has got, and there is none that is "
        "stored to; add an --l2-adapter, without store=no");
  }
  if (std::ranges::any_of(adapters, [](const auto& one) { return one.options.min_hits > 0; })) {
    return wrong(
        "--l2-store-policy skip_l1 and an --l2-adapter with min_hits exclude each other: nothing "
        "stays in L1 to be hit there; leave one out");
  }
  return {};
}

}  // namespace

SetupStatus validate(const ServerOptions& options) {
  LARDER_TRY(check_addresses(options));
  LARDER_TRY(check_tokens(options));
  LARDER_TRY(check_memory(options));
  LARDER_TRY(check_workers(options));
  LARDER_TRY(check_adapters(options));
  return options.engine.validate();
}

std::string pool_name(const ServerOptions& options, std::uint16_t port) {
  if (!options.has_pool) return {};
  return std::string{kPoolPrefix} +
         (options.shm_name.empty() ? "larder_" + std::to_string(port) : options.shm_name);
}

}  // namespace larder::server
