#include "larder/cache/engine_options.h"

#include <string>

#include "larder/base/key_text.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kTouchIntervalMaxNs = std::uint64_t{86'400} * 1'000'000'000;

SetupStatus check_share(double share, const char* name) {
  if (share > 0 && share <= 1) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{name} + " is " + std::to_string(share) +
                        "; it is a share of L1, so give a number above 0 and up to 1."};
}

}  // namespace

SetupResult<Promote> find_promote(std::string_view name) {
  if (name == "none") return Promote::kDefault;
  if (name == "retain") return Promote::kRetain;
  if (name == "second_hit") return Promote::kSecondHit;
  return SetupError{ErrorCode::kInvalidArgument,
                    "promote \"" + printable(name) + "\": expected none, retain or second_hit"};
}

SetupResult<Fill> find_fill(std::string_view name) {
  if (name == "never") return Fill::kNever;
  if (name == "second_hit") return Fill::kSecondHit;
  if (name == "always") return Fill::kAlways;
  return SetupError{ErrorCode::kInvalidArgument,
                    "fill \"" + printable(name) + "\": expected never, second_hit or always"};
}

SetupStatus EngineOptions::validate() const {
  if (SetupResult<const PolicyKind*> kind = find_policy(policy); !kind) return kind.error();
  LARDER_TRY(check_share(lock_share, "lock_share"));
  LARDER_TRY(check_share(load_share, "load_share"));
  LARDER_TRY(check_share(pledge_share, "pledge_share"));
  LARDER_TRY(check_share(quarantine_share, "quarantine_share"));
  LARDER_TRY(check_share(high_watermark, "high_watermark"));
  LARDER_TRY(check_share(low_watermark, "low_watermark"));
  if (low_watermark > high_watermark) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "low_watermark is " + std::to_string(low_watermark) + " and high_watermark " +
                          std::to_string(high_watermark) +
                          "; eviction starts above the high one and goes down to the low one."};
  }
  if (evict_cells_max == 0 || exists_keys_max == 0 || exists_ahead == 0 || batch_bytes_max == 0) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        "evict_cells_max, exists_keys_max, exists_ahead and batch_bytes_max bound how "
        "much is done at once; each must be at least 1."};
  }
  if (touch_interval_ns == 0 || touch_interval_ns > kTouchIntervalMaxNs) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "touch_interval_ns is " + std::to_string(touch_interval_ns) +
                          "; give a time above 0 and up to a day, or set TierOptions::touch to "
                          "false."};
  }
  return {};
}

}  // namespace larder::cache
