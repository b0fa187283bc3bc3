#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/engine_options.h"
#include "larder/connector/batch_limits.h"

namespace larder::tiered {

/// The most tiers below L1 that a spec can name.
inline constexpr std::size_t kTiersMax = 4;

/// When a Set is done.
enum class Write : std::uint8_t {
  kThrough = 0,  ///< When a tier has it.
  kBack,         ///< When L1 has it; the tiers get it behind.
};

struct TieredOptions {
  std::uint64_t l1_bytes = std::uint64_t{1} << 30;
  Write write = Write::kThrough;
  cache::Promote promote = cache::Promote::kRetain;
  std::string policy = "lru";
  double pins_share = 0.25;                 ///< Share of L1 that pins may take.
  bool skip_l1 = false;                     ///< Sets stay in L1 only until the tiers have them.
  bool is_ordered = true;                   ///< The keys of a Get are a prefix in their order.
  std::uint64_t drain_ns = 10'000'000'000;  ///< Time that stop() may take to write the rest.
  std::uint64_t commit_ahead_bytes = std::uint64_t{256} << 20;
  std::vector<cache::TierOptions> tiers{};  ///< One for each tier.
  BatchLimitOptions limits{};
  std::uint64_t miss_after_failure_ns = 30'000'000'000;

  bool has_store() const noexcept;  ///< Some tier is stored to.
  /// A Set is done when L1 has it: on request, and if nothing else can take it.
  bool is_back() const noexcept { return write == Write::kBack || !has_store(); }
  /// Whether they are compatible; otherwise a text for the user.
  SetupStatus validate() const;
};

/// The Item::place of a hit in this tier, counted from 0; L1 is place 0.
constexpr std::uint8_t place_of_tier(std::size_t tier) noexcept {
  return static_cast<std::uint8_t>(tier + 1);
}

/// "yes" or "yes,no": one value for all tiers, or one for each.
SetupResult<std::vector<bool>> read_flags(std::string_view name, std::string_view text,
                                          std::size_t tiers);
SetupResult<std::vector<std::uint32_t>> read_counts(std::string_view name, std::string_view text,
                                                    std::size_t tiers);
SetupResult<std::vector<cache::Fill>> read_fills(std::string_view name, std::string_view text,
                                                 std::size_t tiers);

}  // namespace larder::tiered
