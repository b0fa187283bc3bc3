#include "larder/server/option_table.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>

#include "larder/base/size_text.h"
#include "larder/cache/policies/policy.h"
#include "larder/connector/parameters.h"
#include "larder/server/option_values.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

constexpr std::string_view kAddresses = "Where it listens";
constexpr std::string_view kMemory = "Memory (L1)";
constexpr std::string_view kStorage = "Storage behind it (L2)";
constexpr std::string_view kTokens = "Tokens";
constexpr std::string_view kWorkers = "Requests and workers";
constexpr std::string_view kConfiguration = "Configuration";

constexpr std::array<std::string_view, 3> kTransferModes{"auto", "engine_driven", "lmcache_driven"};
constexpr std::array<std::string_view, 2> kStorePolicies{"default", "skip_l1"};
constexpr std::array<std::string_view, 3> kPrefetchPolicies{"default", "retain", "second_hit"};

template <class Owner>
Owner& part(OptionDraft& draft) {
  if constexpr (std::is_same_v<Owner, cache::EngineOptions>) {
    return draft.options.engine;
  } else {
    return draft.options;
  }
}

template <class Owner, class Value>
Value& field(OptionDraft& draft, Value Owner::* member) {
  return part<Owner>(draft).*member;
}

template <auto kMember>
SetupStatus set_text(OptionDraft& draft, std::string_view text) {
  field(draft, kMember) = std::string{text};
  return {};
}

template <auto kMember>
SetupStatus set_path(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(field(draft, kMember), expand_home(text));
  return {};
}

template <auto kMember>
SetupStatus set_seconds(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(field(draft, kMember), parse_seconds(text));
  return {};
}

template <auto kMember>
SetupStatus set_port(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::int64_t port,
                parse_whole(text, 0, std::numeric_limits<std::uint16_t>::max()));
  field(draft, kMember) = static_cast<std::uint16_t>(port);
  return {};
}

SetupStatus set_no_http(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const bool is_set, parse_bool(text));
  draft.options.has_http = !is_set;
  return {};
}

SetupStatus set_admin_open(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.is_admin_open, parse_bool(text));
  return {};
}

SetupStatus set_metrics_port(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::int64_t port,
                parse_whole(text, 0, std::numeric_limits<std::uint16_t>::max()));
  draft.options.metrics_port = static_cast<std::uint16_t>(port);
  return {};
}

SetupStatus set_no_lmcache_metrics(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const bool is_set, parse_bool(text));
  draft.options.has_lmcache_metrics = !is_set;
  return {};
}

SetupStatus set_transfer_mode(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::size_t mode, parse_choice(text, kTransferModes));
  constexpr std::array kModes{TransferMode::kAuto, TransferMode::kEngineDriven,
                              TransferMode::kLmcacheDriven};
  draft.options.transfer_mode = kModes[mode];
  return {};
}

SetupStatus set_copy_threads(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::int64_t threads, parse_whole(text, 1, 256));
  draft.options.copy_threads = static_cast<std::uint32_t>(threads);
  return {};
}

SetupStatus set_object_groups(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const bool are_apart, parse_bool(text));
  draft.options.object_groups = are_apart ? ObjectGroups::kApart : ObjectGroups::kTogether;
  return {};
}

SetupStatus set_chunk_size(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::int64_t tokens, parse_whole(text, 1, wire::limits::kChunkTokens));
  draft.options.chunk_tokens = static_cast<std::uint32_t>(tokens);
  return {};
}

SetupStatus set_hash_memory(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.hash_memory_bytes, parse_bytes(text));
  return {};
}

SetupStatus set_kv_event_log_size(OptionDraft& draft, std::string_view text) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  LARDER_ASSIGN(const std::int64_t events, parse_whole(text, 0, kMost));
  draft.options.kv_event_log_size = static_cast<std::size_t>(events);
  return {};
}

SetupStatus set_kv_events_salted(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.tells_salted_events, parse_bool(text));
  return {};
}

SetupStatus set_null_block_id(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.null_block_id, parse_integer(text));
  return {};
}

SetupStatus set_l1_size(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.l1_bytes, parse_gib(text));
  if (draft.options.l1_bytes > 0) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    "an L1 of 0 bytes: the engines' data passes through it; give at least what a "
                    "few requests take, as in 8"};
}

SetupStatus set_l1_align(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.l1_align_bytes, parse_bytes(text));
  return {};
}

SetupStatus set_l1_ahead(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.l1_ahead_bytes, parse_gib(text));
  return {};
}

SetupStatus set_l1_lazy(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.is_l1_lazy, parse_bool(text));
  return {};
}

SetupStatus set_shm_name(OptionDraft& draft, std::string_view text) {
  draft.options.shm_name = std::string{text};
  draft.options.has_pool = !text.empty();
  return {};
}

SetupStatus set_eviction_policy(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const cache::PolicyKind* const kind, cache::find_policy(text));
  draft.options.engine.policy = std::string{kind->name};
  return {};
}

SetupStatus set_eviction_trigger(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.eviction_trigger, parse_share(text));
  return {};
}

SetupStatus set_eviction_ratio(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.eviction_ratio, parse_share(text));
  return {};
}

SetupStatus set_quota_default(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(draft.options.engine.default_quota.limit_bytes, parse_gib(text));
  return {};
}

SetupStatus set_store_policy(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::size_t policy, parse_choice(text, kStorePolicies));
  draft.options.engine.skip_l1 = policy == 1;
  return {};
}

SetupStatus set_prefetch_policy(OptionDraft& draft, std::string_view text) {
  LARDER_ASSIGN(const std::size_t policy, parse_choice(text, kPrefetchPolicies));
  const std::string_view name = policy == 0 ? "none" : kPrefetchPolicies.at(policy);
  LARDER_ASSIGN(draft.options.engine.promote, cache::find_promote(name));
  return {};
}

constexpr auto kHonoured = std::to_array<OptionRow>({
    {.name = "config",
     .value = "FILE",
     .group = kConfiguration,
     .help =
         "Read what is not given here, nor in the environment, from a TOML file: the same names "
         "with underscores, as in l1_size_gb = 8. No file is read unless it is named."},

    {.name = "host",
     .value = "HOST",
     .group = kAddresses,
     .default_text = "localhost",
     .help = "Where engines connect: a name or an address. 0.0.0.0 is every interface; every "
             "client that reaches the port may read and write the cache.",
     .set = set_text<&ServerOptions::host>},
    {.name = "port",
     .value = "PORT",
     .group = kAddresses,
     .default_text = "5555",
     .help = "Its port; 0 takes a free one.",
     .set = set_port<&ServerOptions::port>},
    {.name = "ipc-path",
     .value = "PATH",
     .group = kAddresses,
     .help = "A unix socket beside it, for engines of the same user (0600).",
     .set = set_path<&ServerOptions::ipc_path>},
    {.name = "http-host",
     .value = "HOST",
     .group = kAddresses,
     .default_text = "127.0.0.1",
     .help = "Where /healthcheck, /status, /config and /metrics are served.",
     .set = set_text<&ServerOptions::http_host>},
    {.name = "http-port",
     .value = "PORT",
     .group = kAddresses,
     .default_text = "8080",
     .help = "Its port; 0 takes a free one.",
     .set = set_port<&ServerOptions::http_port>},
    {.name = "no-http",
     .shape = OptionShape::kFlag,
     .group = kAddresses,
     .help = "Serve no HTTP.",
     .set = set_no_http},
    {.name = "admin-socket",
     .value = "PATH",
     .group = kAddresses,
     .help =
         "A unix socket (0600) with the same HTTP, where this server's user and root may change "
         "the cache's state without a token: curl --unix-socket PATH.",
     .set = set_path<&ServerOptions::admin_socket>},
    {.name = "admin-token-file",
     .value = "FILE",
     .group = kAddresses,
     .help = "Let HTTP clients change the cache's state, as POST /cache/clear does, if they send "
             "the token in this file: Authorization: Bearer TOKEN. Without it, and without "
             "--admin-open, HTTP only reads.",
     .set = set_path<&ServerOptions::admin_token_file>},
    {.name = "admin-open",
     .shape = OptionShape::kFlag,
     .group = kAddresses,
     .help = "Let every client of this machine do so without a token, as `lmcache kvcache clear` "
             "needs it. Only with --http-host on loopback.",
     .set = set_admin_open},
    {.name = "metrics-host",
     .value = "HOST",
     .group = kAddresses,
     .default_text = "127.0.0.1",
     .help = "Where --metrics-port is.",
     .set = set_text<&ServerOptions::metrics_host>},
    {.name = "metrics-port",
     .value = "PORT",
     .group = kAddresses,
     .help = "A port that serves /metrics and nothing else, for a Prometheus on another machine; "
             "0 takes a free one. Without it /metrics is at --http-port alone.",
     .set = set_metrics_port},
    {.name = "no-lmcache-metrics",
     .shape = OptionShape::kFlag,
     .group = kAddresses,
     .help = "Leave the metrics under LMCache's names, lmcache_mp_*, out of /metrics.",
     .set = set_no_lmcache_metrics},
    {.name = "instance-id",
     .value = "NAME",
     .group = kAddresses,
     .help = "What this server is called in /config and in metrics; random unless given.",
     .set = set_text<&ServerOptions::instance_id>},

    {.name = "l1-size-gb",
     .value = "GIB",
     .group = kMemory,
     .help = "Memory for the cache, as in 8, 0.5 or 32GiB. Required. It lies in /dev/shm, from "
             "where workers read it.",
     .set = set_l1_size},
    {.name = "l1-align-bytes",
     .value = "BYTES",
     .group = kMemory,
     .default_text = "4096",
     .help = "Alignment of what is in it. 4096 lets every disk read and write it without a copy.",
     .set = set_l1_align},
    {.name = "l1-init-size-gb",
     .value = "GIB",
     .group = kMemory,
     .default_text = "0.25",
     .help = "How much memory the server takes from the system before L1 needs it, in the "
             "background. What is stored faster than that waits for the kernel to clear pages.",
     .set = set_l1_ahead},
    {.name = "l1-use-lazy",
     .shape = OptionShape::kSwitch,
     .group = kMemory,
     .help = "--no-l1-use-lazy takes all of L1 from the system at the start, in the background.",
     .set = set_l1_lazy},
    {.name = "shm-name",
     .value = "NAME",
     .group = kMemory,
     .help = "The pool is /dev/shm/lmcache_l1_pool_NAME; without the option NAME is larder_ and "
             "the port. \"\": no pool, so that engine-driven workers cannot register.",
     .set = set_shm_name},
    {.name = "eviction-policy",
     .value = "POLICY",
     .group = kMemory,
     .default_text = "LRU",
     .help = "What leaves when it is full: LRU, ARC, S3-FIFO, prefix (learns which prefixes are "
             "used again, and is LRU where that does no better), IsolatedLRU (LRU within each "
             "cache_salt), or noop: nothing, and a full L1 takes no more.",
     .set = set_eviction_policy},
    {.name = "eviction-trigger-watermark",
     .value = "SHARE",
     .group = kMemory,
     .help = "Evict ahead of need when more than this share is in use. Without it, and without "
             "--eviction-ratio, only what needs room makes it, at once; LMCache needs 0.8 because "
             "its eviction runs once a second.",
     .set = set_eviction_trigger},
    {.name = "eviction-ratio",
     .value = "SHARE",
     .group = kMemory,
     .help = "With the watermark: evict this share of what is in use. 0.2 when only the watermark "
             "is given; alone it has a watermark of 0.8.",
     .set = set_eviction_ratio},
    {.name = "quota-default-gb",
     .value = "GIB",
     .group = kMemory,
     .help = "What a cache_salt without a quota of its own may take of L1; no limit unless given.",
     .set = set_quota_default},
    {.name = "quota-file",
     .value = "FILE",
     .group = kMemory,
     .help =
         "Where the quotas are kept that PUT /quota/SALT sets: read at the start, and "
         "rewritten at each change. Without it they end with the server. One file for each server.",
     .set = set_path<&ServerOptions::quota_file>},
    {.name = "l1-read-ttl-seconds",
     .value = "SECONDS",
     .group = kMemory,
     .default_text = "300",
     .help = "How long a request's chunks stay locked for its engine, when that is not heard of.",
     .set = set_seconds<&cache::EngineOptions::read_ttl_ns>},
    {.name = "l1-write-ttl-seconds",
     .value = "SECONDS",
     .group = kMemory,
     .default_text = "600",
     .help = "After which time a chunk that a worker began to write may be written by another.",
     .set = set_seconds<&cache::EngineOptions::write_ttl_ns>},
    {.name = "l1-manager",
     .shape = OptionShape::kRepeated,
     .value = "JSON",
     .group = kMemory,
     .help = "LMCache's other spelling of these options, as one object of type DRAM. larder has "
             "one L1."},

    {.name = "l2-adapter",
     .shape = OptionShape::kRepeated,
     .value = "SPEC",
     .group = kStorage,
     .help =
         "A store behind L1, as a URL or as LMCache's JSON. Give it again for further ones: a "
         "chunk is stored to all, and loaded from the first one that has it. Each may have "
         "load=yes|no, store=yes|no, min_hits=N, fill=never|second_hit|always and touch=yes|no."},
    {.name = "l2-store-policy",
     .value = "POLICY",
     .group = kStorage,
     .default_text = "default",
     .help = "default: what is stored stays in L1 as well. skip_l1: it leaves L1 when the stores "
             "have it.",
     .set = set_store_policy},
    {.name = "l2-prefetch-policy",
     .value = "POLICY",
     .group = kStorage,
     .default_text = "default",
     .help = "What stays in L1 of what was loaded for a request. default: nothing, it goes first; "
             "retain: all; second_hit: what was loaded before not long ago.",
     .set = set_prefetch_policy},
    {.name = "l2-load-timeout-seconds",
     .value = "SECONDS",
     .group = kStorage,
     .default_text = "30",
     .help = "A lookup is answered after so long with the prefix that is there by then.",
     .set = set_seconds<&cache::EngineOptions::load_timeout_ns>},
    {.name = "drain-seconds",
     .value = "SECONDS",
     .group = kStorage,
     .default_text = "10",
     .help = "At SIGTERM: how long the stores may take to get what they do not have yet.",
     .set = set_seconds<&ServerOptions::drain_ns>},

    {.name = "chunk-size",
     .value = "TOKENS",
     .group = kTokens,
     .default_text = "256",
     .help = "Tokens of a chunk, the unit of the cache. Stores that servers share need the same.",
     .set = set_chunk_size},
    {.name = "null-block-id",
     .value = "ID",
     .group = kTokens,
     .default_text = "0",
     .help = "The engine's block id that stands for no data.",
     .set = set_null_block_id},
    {.name = "hash-memory",
     .value = "BYTES",
     .group = kTokens,
     .default_text = "256MiB",
     .help = "Memory that saves hashing prompts that were seen before; 0 turns it off.",
     .set = set_hash_memory},

    {.name = "supported-transfer-mode",
     .value = "MODE",
     .group = kWorkers,
     .default_text = "auto",
     .help = "engine_driven: workers copy between their memory and the pool. lmcache_driven: the "
             "server copies from and to their shared memory. auto: either, as the worker asks.",
     .set = set_transfer_mode},
    {.name = "copy-threads",
     .value = "N",
     .group = kWorkers,
     .default_text = "2",
     .help = "Threads that copy for workers whose transfers the server drives.",
     .set = set_copy_threads},
    {.name = "separate-object-groups",
     .shape = OptionShape::kSwitch,
     .group = kWorkers,
     .help = "Layers with different attention windows become objects of their own; without either "
             "where a model has windows. It concerns transfers that the server drives.",
     .set = set_object_groups},
    {.name = "kv-event-log-size",
     .value = "N",
     .group = kWorkers,
     .default_text = "32768",
     .help =
         "Changes of L1 that are kept for those who follow them (subscribe_kv_events), with the "
         "tokens of each chunk; 0: none are told.",
     .set = set_kv_event_log_size},
    {.name = "kv-events-salted",
     .shape = OptionShape::kSwitch,
     .group = kWorkers,
     .help = "Report chunks with a cache salt, too: every client that reaches the port sees their "
             "tokens.",
     .set = set_kv_events_salted},
    {.name = "session-ttl-seconds",
     .value = "SECONDS",
     .group = kWorkers,
     .default_text = "3600",
     .help = "How long a request may wait in its engine without losing what it locked (LMCache: "
             "600).",
     .set = set_seconds<&cache::EngineOptions::session_ttl_ns>},
    {.name = "worker-reap-timeout-seconds",
     .value = "SECONDS",
     .group = kWorkers,
     .default_text = "120",
     .help = "A worker that is silent for so long is forgotten, until it is heard of again; 0: "
             "never, else at least 30.",
     .set = set_seconds<&ServerOptions::worker_reap_ns>},
    {.name = "worker-registration-grace-seconds",
     .value = "SECONDS",
     .group = kWorkers,
     .default_text = "3600",
     .help = "The same for a worker that has not sent a heartbeat yet; not below the other.",
     .set = set_seconds<&ServerOptions::worker_grace_ns>},
});

std::vector<OptionRow> make_rows() {
  std::vector<OptionRow> rows{kHonoured.begin(), kHonoured.end()};
  rows.insert(rows.end(), stock_rows().begin(), stock_rows().end());
  return rows;
}

std::string with_underscores(std::string_view name) {
  std::string text{name};
  std::ranges::replace(text, '-', '_');
  return text;
}

}  // namespace

std::span<const OptionRow> option_rows() {
  static const std::vector<OptionRow> rows = make_rows();
  return rows;
}

const OptionRow* find_option(std::string_view name) noexcept {
  const auto rows = option_rows();
  const auto found = std::ranges::find(rows, name, &OptionRow::name);
  return found == rows.end() ? nullptr : &*found;
}

std::string key_of(const OptionRow& row) {
  return with_underscores(row.name);
}

std::string variable_of(const OptionRow& row) {
  std::string name = "LARDER_" + with_underscores(row.name);
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return name;
}

}  // namespace larder::server
