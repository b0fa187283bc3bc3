#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "larder/cache/ids.h"
#include "larder/connector/connector.h"

namespace larder::cache {

/// Which loaded cells of a hit stay in L1 (E30).
enum class Promote : std::uint8_t {
  kDefault = 0,  ///< None: they go first, but only when room is needed.
  kRetain,       ///< All of them.
  kSecondHit,    ///< Those that were loaded before within the last `ghosts_max` loads.
};

/// By its name: "none", "retain" or "second_hit".
SetupResult<Promote> find_promote(std::string_view name);

/// Whether a kept cell is also stored into the connectors before its source (E32).
enum class Fill : std::uint8_t { kNever = 0, kSecondHit, kAlways };

/// By its name: "never", "second_hit" or "always".
SetupResult<Fill> find_fill(std::string_view name);

/// One connector behind L1. The order of the tiers is the order in which cells are loaded.
struct TierOptions {
  bool load = true;
  bool store = true;
  std::uint32_t min_hits = 0;        ///< Store a column only after so many lookups hit it (E34).
  Fill fill = Fill::kNever;          ///< What this tier gets of what later ones have.
  bool touch = true;                 ///< It hears what L1 serves, if it is loaded from (E40).
  std::uint64_t load_bytes_max = 0;  ///< In flight (E26). 0: 1 GiB or a quarter of L1, the smaller.
  std::uint64_t store_bytes_max = std::uint64_t{512} << 20;  ///< In flight (E33).
};

struct Tier {
  std::unique_ptr<Connector> connector;
  TierOptions options;
};

/// A salt's share of L1 (E22), and of the tiers.
struct Quota {
  std::uint64_t limit_bytes = kNever;  ///< Above it the salt loses its own coldest columns first.
  std::uint64_t guarantee_bytes = 0;   ///< Up to it the salt loses no column to others.
  /// Of each tier: what would go above it is not stored there (E34). See Engine::begin_count().
  std::uint64_t tier_limit_bytes = kNever;
};

/// Times are in nanoseconds; shares are of the arena's capacity.
struct EngineOptions {
  std::string policy = "LRU";
  std::uint64_t seed = 0;  ///< Of policies that draw lots.
  Quota default_quota;     ///< Of salts without one of their own.
  std::size_t columns_expected = 1 << 16;
  std::size_t ghosts_max = 1 << 16;  ///< Columns that were evicted, and loads, that are remembered.

  std::uint64_t read_ttl_ns = 300'000'000'000;       ///< E9: silence of the session's connection.
  std::uint64_t session_ttl_ns = 3'600'000'000'000;  ///< E9: silence about the request.
  std::uint64_t write_ttl_ns = 600'000'000'000;      ///< E16.
  std::uint64_t session_grace_ns = 5'000'000'000;    ///< E9: after the connection closed.
  std::uint64_t owner_grace_ns = 10'000'000'000;     ///< E16: after the owner unregistered.

  double lock_share = 0.8;              ///< E12.
  double load_share = 0.5;              ///< E25: of one plan.
  double pledge_share = 0.25;           ///< E41: of all pledges together.
  double quarantine_share = 0.1;        ///< E16: of one owner.
  std::uint32_t evict_cells_max = 256;  ///< E19: of one turn.
  /// E19: once more than the first share is in use, columns are evicted ahead of need until no more
  /// than the second is. With 1 room is made only when it is needed, and never ahead.
  double high_watermark = 1.0;
  double low_watermark = 1.0;

  std::uint64_t pass_over_ns = 500'000'000;        ///< E25.
  std::uint64_t load_timeout_ns = 30'000'000'000;  ///< E28, where the lookup names no deadline.
  std::uint64_t batch_bytes_max = std::uint64_t{64} << 20;  ///< E26.
  std::uint32_t exists_keys_max = 512;                      ///< E23: of one piece.
  std::uint32_t exists_ahead = 2;                           ///< E23: pieces.
  Promote promote = Promote::kDefault;
  bool skip_l1 = false;  ///< E34: buffer-only.
  /// A cell that some tier still wants stays, and a store without room is refused: for a driver
  /// that has told its callers that the cell is stored. No: E33, such a cell may be evicted.
  bool keeps_wanted = false;
  bool estimates_capacities = true;  ///< EngineStats::what_if_l1: for drivers that look up.
  std::uint64_t touch_interval_ns = 60'000'000'000;  ///< E40: a tier hears once of a column.
  std::uint64_t tier_retry_ns = 1'000'000'000;       ///< E33: a tier in trouble is asked again.

  SetupStatus validate() const;
};

/// One cell, for its name in L2.
struct CellName {
  SpaceId space{};
  ChunkHash chunk;
  std::uint32_t rank = 0;
  std::uint32_t group = 0;
};

/// How cells are called in L2: the driver knows, the engine has no texts.
class KeyNames {
 public:
  virtual ~KeyNames() = default;
  /// Writes the key, at most kKeyBytesMax bytes, to `out`; returns its length. No two cells have
  /// one name (P10). Called once for each cell of an L2 batch.
  virtual std::size_t write_key(const CellName& cell,
                                std::span<std::byte, kKeyBytesMax> out) const noexcept = 0;
};

}  // namespace larder::cache
