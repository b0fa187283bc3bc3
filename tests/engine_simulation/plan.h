#pragma once

#include <cstdint>
#include <vector>

#include "larder/cache/engine_options.h"
#include "larder/cache/layouts.h"
#include "larder/connector/report.h"

namespace larder::cache::simulation {

/// The number of salts, each with a space of its own beside that of whole values.
inline constexpr std::uint32_t kSalts = 2;
inline constexpr std::uint32_t kValueSpace = kSalts;
inline constexpr std::uint32_t kSpaces = kSalts + 1;
inline constexpr std::uint32_t kChunksMax = 10;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

/// What a history looks for beside everything else. Some rules are exact only where some things do
/// not happen.
enum class Manner : std::uint8_t {
  kAnything = 0,
  kCalm,     ///< Tiers answer, and nothing is cleared, removed or limited.
  kNoTiers,  ///< L1 alone, cells of one row and size: what may be evicted follows exactly.
  kBuffer,   ///< The policy "noop": what is not kept leaves at once.
  kQueue,    ///< Much is loaded and locked for long, so that lookups wait for room.
};

struct TierPlan {
  TierOptions options;
  bool is_log = false;  ///< The log store's machine over a simulated device.
  bool has_probe = false;
  bool holds = true;             ///< Batches end when the history says so; no: inside submit().
  bool ignores_cancel = false;   ///< What is cancelled completes late.
  bool keeps_deadlines = false;  ///< Batches end at their deadlines.
  bool has_faults = false;
  bool fails = false;      ///< Of its faults some are errors; no: it is down, full or slow only.
  bool is_filled = false;  ///< An earlier run has left something.
  Locality locality = Locality::kLocalDisk;
};

/// What one history is made of; everything follows from its seed.
struct Plan {
  Manner manner = Manner::kAnything;
  EngineOptions options;
  std::uint64_t unit_bytes = 64;  ///< Of a cell, where sizes are not mixed.
  std::uint64_t grain_bytes = 64;
  std::uint64_t capacity_bytes = 0;
  LayoutSpec layout;
  LayoutSpec other_layout;      ///< Of the same model, for `changes_layout`.
  bool has_open_sizes = false;  ///< Values have sizes of their own.
  std::uint64_t value_bytes_max = 0;
  std::uint32_t prompts = 0;
  std::uint32_t connections = 2;
  std::uint32_t request_ids = 5;
  std::uint32_t workers = 3;
  std::uint32_t lives = 1;  ///< Engines, one after the other, over the same tiers.
  std::vector<TierPlan> tiers;
  bool polls_eagerly = false;  ///< Each lookup is asked for its result at every step.
  bool frees_whole = false;    ///< FREE and reads name whole hits only.
  bool has_values = false;
  bool has_quotas = false;
  bool has_removals = false;  ///< clear(), remove().
  bool has_purges = false;    ///< With removals: clears of all scopes, and purges.
  bool has_tier_limits = false;
  bool has_watermarks = false;
  bool changes_layout = false;
  std::uint32_t quiet = 1;  ///< One step in so many passes time.

  bool is_single_row() const { return layout.world_size == 1 && layout.groups.size() == 1; }
};

Plan make_plan(std::uint64_t seed);

}  // namespace larder::cache::simulation
