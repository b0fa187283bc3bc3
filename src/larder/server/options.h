#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/engine_options.h"
#include "larder/connector/spec.h"

namespace larder::server {

/// One connector behind L1, as `--l2-adapter` names it: a URL or LMCache's JSON.
struct L2Adapter {
  std::string text;            ///< As given. It may hold a password: show `shown`.
  std::string shown;           ///< In the form for people (shown_spec()).
  Spec spec;                   ///< The registry opens this: without the fields of `options`.
  cache::TierOptions options;  ///< "store", "load", "min_hits", "fill", "touch".
};

inline constexpr std::size_t kL2AdaptersMax = 16;

/// Which transfers workers may use.
enum class TransferMode : std::uint8_t { kAuto = 0, kEngineDriven, kLmcacheDriven };

/// S21: how kernel groups with different windows are treated when a worker registers.
enum class ObjectGroups : std::uint8_t {
  kAuto = 0,  ///< Apart where windows differ.
  kTogether,
  kApart,
};

/// Everything that can be set about a server, with its defaults. Names are those of `lmcache
/// server`; option_table.h has the table of which command line option, larder.toml key and LARDER_*
/// variable sets which field. Sizes are in bytes, times in nanoseconds, unless the name says
/// otherwise.
struct ServerOptions {
  // ---- Where it listens.
  std::string host = "localhost";  ///< `--host`: an address or a name; loopback by default (S16).
  std::uint16_t port = 5555;       ///< 0: any free one.
  std::string ipc_path;            ///< `--ipc-path`: a unix socket beside it, mode 0600. "": none.
  std::string http_host = "127.0.0.1";
  std::uint16_t http_port = 8080;  ///< 0: any free one.
  bool has_http = true;            ///< `--no-http`.
  std::string admin_socket;        ///< `--admin-socket`: HTTP for this user (S29). "": none.
  std::string admin_token_file;    ///< `--admin-token-file` (S29). "": none.
  bool is_admin_open = false;      ///< `--admin-open`.
  std::string metrics_host = "127.0.0.1";
  std::optional<std::uint16_t> metrics_port;  ///< Nothing: /metrics is where HTTP is; 0: any free.
  bool has_lmcache_metrics = true;            ///< `--no-lmcache-metrics`.
  std::string instance_id;                    ///< "": random.

  // ---- Tokens.
  std::uint32_t chunk_tokens = 256;                            ///< `--chunk-size`: a minimum (S7).
  std::uint64_t hash_memory_bytes = std::uint64_t{256} << 20;  ///< S10; 0 turns it off.
  std::uint64_t hash_seed = 0;  ///< Makes tables unpredictable; run_server() draws it.
  std::int64_t null_block_id = 0;

  // ---- KV events (S26).
  std::size_t kv_event_log_size = 32768;  ///< 0: no events.
  bool tells_salted_events = false;       ///< `--kv-events-salted`.
  std::uint64_t incarnation = 0;          ///< Of this run; run_server() takes the time.

  // ---- L1.
  std::uint64_t l1_bytes = 0;  ///< `--l1-size-gb`; required.
  std::uint64_t l1_align_bytes = 4096;
  /// `--l1-init-size-gb`: how far ahead of use L1's pages are taken from the system.
  std::uint64_t l1_ahead_bytes = std::uint64_t{256} << 20;
  bool is_l1_lazy = true;  ///< `--no-l1-use-lazy`: all pages are taken at the start.
  bool has_pool = true;    ///< No: `--shm-name ""`; then engine-driven workers cannot register.
  std::string shm_name;  ///< "": `larder_<port>`. As in LMCache, without "lmcache_l1_pool_" (S20).
  cache::EngineOptions engine;
  std::string quota_file;  ///< `--quota-file`: the quotas by salt. "": they end with the server.

  // ---- L2.
  std::vector<L2Adapter> l2_adapters;  ///< In the order of the command line.

  // ---- Sessions and workers.
  TransferMode transfer_mode = TransferMode::kAuto;
  std::uint32_t copy_threads = 2;  ///< For transfers that the server drives.
  ObjectGroups object_groups = ObjectGroups::kAuto;
  std::uint64_t worker_reap_ns = 120'000'000'000;    ///< S18; 0: never.
  std::uint64_t worker_grace_ns = 3600'000'000'000;  ///< S18: of one that never pinged.
  std::uint64_t transfer_start_ns = 30'000'000'000;  ///< S15.
  std::uint64_t stall_max_ns = 5'000'000'000;        ///< S15: at most half the shortest heartbeat.

  // ---- The end.
  std::uint64_t drain_ns = 10'000'000'000;  ///< `--drain-seconds` (S32).
};

/// Checks as much as possible without opening anything. Errors name the command line's option.
SetupStatus validate(const ServerOptions& options);

/// The pool's name in /dev/shm of a server bound to `port`; empty: it has none.
std::string pool_name(const ServerOptions& options, std::uint16_t port);

}  // namespace larder::server
