#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/bucket_counts.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine_stats.h"
#include "larder/connector/metrics.h"
#include "larder/connector/report.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/recent_totals.h"

namespace larder::server {

/// The layout of one KV group of a worker's cells.
struct GroupStatus {
  std::uint32_t num_layers = 0;
  std::uint32_t hidden = 0;         ///< Elements of a token in one layer and plane.
  std::uint32_t planes = 0;         ///< 2: keys and values.
  std::uint32_t window_chunks = 0;  ///< 0: full attention.
  std::string dtype;
};

/// A registered worker.
struct InstanceStatus {
  std::string id;  ///< The client's number, in decimal.
  std::string model;
  std::uint32_t world_size = 0;
  std::optional<std::uint32_t> rank;  ///< Of its last transfer.
  std::uint32_t num_layers = 0;
  std::uint32_t block_tokens = 0;
  std::string dtype;
  std::uint64_t chunk_bytes = 0;  ///< Of all groups.
  std::uint64_t silent_ns = 0;    ///< Since it was last heard of.
  std::uint64_t connection = 0;
  std::vector<GroupStatus> groups;
  bool is_mla = false;
  bool is_driven = false;           ///< The server copies its blocks; else it copies itself.
  std::uint64_t chunks_loaded = 0;  ///< By its retrieves, since it was registered.
};

/// The lookups of one model and salt, in chunks. Both texts are the clients' and may contain
/// anything.
struct SpaceStatus {
  std::string model;
  std::string salt;
  cache::LookupTotals lookups;
};

/// A salt's use and quota.
struct SaltStatus {
  std::string salt;  ///< The clients', as above.
  cache::SaltStats stats;
};

/// Stands for models and salts that are not counted separately.
inline constexpr const char* kOtherSpaces = "other";

/// Totals of the protocol since the start. They only grow.
struct ServiceTotals {
  std::array<std::uint64_t, 128> requests{};  ///< By wire::Operation.
  std::array<std::uint64_t, 128> failures{};  ///< Of these: answered as failed (S2).
  std::uint64_t unknown_operations = 0;       ///< Answered with an error text.
  std::uint64_t dropped = 0;                  ///< Messages that cannot be answered.
  std::uint64_t instances_registered = 0;
  std::uint64_t instances_reaped = 0;
  std::uint64_t register_again = 0;    ///< PINGs that were answered false (S4).
  std::uint64_t stalls = 0;            ///< S15.
  std::uint64_t transfers_stale = 0;   ///< S15: refused because they had waited for too long.
  std::uint64_t requests_refused = 0;  ///< S32: after the end had begun.
};

/// One connector behind L1.
struct TierStatus {
  std::string spec;  ///< In a form without secrets.
  std::string type;
  std::string name;  ///< Its type, or `fs#2` if it is the second of its type.
  Report report;
  std::span<const MetricRow> metrics;  ///< Its type's own counters.
};

/// The log of KV events (S26).
struct KvEventStatus {
  bool is_enabled = false;
  std::uint64_t incarnation = 0;
  std::uint64_t events = 0;  ///< In the log.
  std::uint64_t events_max = 0;
  std::uint64_t last = 0;            ///< The newest event's number.
  std::uint64_t stored_unknown = 0;  ///< Told without their tokens.
  std::uint64_t streams = 0;
};

/// Upper bounds of a turn's time, in nanoseconds.
inline constexpr std::array<std::uint64_t, 12> kTurnBoundsNs{
    10'000,     30'000,     100'000,     300'000,     1'000'000,     3'000'000,
    10'000'000, 30'000'000, 100'000'000, 300'000'000, 1'000'000'000, 5'000'000'000};

/// A snapshot of a server's state.
struct ServerStatus {
  std::uint64_t started_ns = 0;  ///< CLOCK_MONOTONIC.
  std::uint64_t now_ns = 0;
  std::uint32_t chunk_tokens = 0;
  bool is_draining = false;
  std::uint64_t connections = 0;
  std::uint64_t keys_waiting = 0;  ///< Messages whose key is not hashed yet.
  std::vector<InstanceStatus> instances;
  std::vector<TierStatus> tiers;
  std::vector<SpaceStatus> spaces;  ///< At most cache::kSpacesCounted and one for all others.
  std::vector<SaltStatus> salts;    ///< At most cache::kSaltsCounted and one for all others.
  ServiceTotals totals;
  KvEventStatus kv_events;
  CopyStatistics copies;
  cache::EngineStats engine;
  cache::ArenaReport l1_memory;
  std::uint64_t hash_memory_bytes = 0;
  std::uint64_t hash_chunks_found = 0;
  std::uint64_t hash_chunks_absent = 0;
  std::uint64_t replies_dropped = 0;
  std::uint64_t connections_shut = 0;  ///< S13: senders of messages that never ended.
  BucketCounts<kTurnBoundsNs> turns;   ///< Time of the loop's turns, without waiting.
  WatchedTotals last_minute;
  WatchedTotals last_5_minutes;
  WatchedTotals last_15_minutes;
};

}  // namespace larder::server
