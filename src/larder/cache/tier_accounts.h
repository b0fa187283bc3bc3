#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "larder/cache/ids.h"

namespace larder::cache {

/// How much of each salt lies in each tier, as far as the engine was told (E34): what the driver
/// has set, and what the engine has stored and deleted by name since. A connector does not report
/// its evictions by salt; the driver, which can read the keys of its events and scans, sets the
/// account anew.
///
/// Threads: the engine's. Cost: O(1).
class TierAccounts {
 public:
  explicit TierAccounts(std::size_t tiers) : bytes_(tiers) {}

  std::uint64_t bytes(TierId tier, SaltId salt) const noexcept {
    const std::vector<std::uint64_t>& of_tier = bytes_[tier];
    return index_of(salt) < of_tier.size() ? of_tier[index_of(salt)] : 0;
  }
  void set(TierId tier, SaltId salt, std::uint64_t bytes) { entry(tier, salt) = bytes; }
  void add(TierId tier, SaltId salt, std::uint64_t bytes) { entry(tier, salt) += bytes; }
  /// What was added before the driver set the account may be gone from it already.
  void subtract(TierId tier, SaltId salt, std::uint64_t bytes) {
    std::uint64_t& of_salt = entry(tier, salt);
    of_salt -= std::min(of_salt, bytes);
  }

 private:
  std::uint64_t& entry(TierId tier, SaltId salt) {
    std::vector<std::uint64_t>& of_tier = bytes_[tier];
    if (of_tier.size() <= index_of(salt)) of_tier.resize(index_of(salt) + 1);
    return of_tier[index_of(salt)];
  }

  std::vector<std::vector<std::uint64_t>> bytes_;  ///< By tier and salt.
};

}  // namespace larder::cache
