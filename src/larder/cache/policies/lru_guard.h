#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace larder::cache {

/// Keeps a policy from losing to LRU: compares its hits with those that LRU would have had, and
/// bounds how far the policy may depart from LRU's order.
///
/// Account: a hit adds 1, one that LRU would have had takes 1 away, and each miss of LRU adds
///   kAllowance. Below minus the stake, the freedom goes down a step; above the stake it goes up
///   one. Gains cover later losses, up to the credit: old gains do not count beyond it.
///   Without freedom the policy is LRU: the account then grows by the allowance alone, after it has
///   paid for the columns that come back late, so the next try begins the later the more the last
///   one has cost.
/// Why a request is the unit: uses come in requests, and a hit or a miss of all its columns is one
///   event. A stake smaller than a request would be lost by chance.
/// Unknown to it: whether columns that LRU would still hold will be used. Columns evicted before
///   the first sign of a loss come back late, once; so a return to LRU's order costs up to a part
///   of the cache in misses, which the next try has to wait for.
/// Threads: one. Cost: O(1).
class LruGuard {
 public:
  static constexpr double kAllowance = 0.003;
  static constexpr double kStakeShare = 0.02;  ///< Share of the columns; at least a request.
  static constexpr double kStakeMin = 64;
  static constexpr double kCreditRequests = 16;
  /// By step: a column that is not LRU's victim may go if its index is below this share of the
  /// index of LRU's victim.
  static constexpr std::array<double, 3> kFreedoms = {0, 0.4, 0.7};

  /// A request of so many columns begins.
  void begin(std::uint32_t chunks) noexcept {
    request_ += (static_cast<double>(chunks) - request_) * kRequestWeight;
  }
  /// One use of a column.
  void note(bool is_hit, bool is_hit_of_lru, std::size_t columns) noexcept {
    const double stake =
        std::max({kStakeMin, kStakeShare * static_cast<double>(columns), request_});
    account_ += (is_hit ? 1 : 0) - (is_hit_of_lru ? 1 : 0) + (is_hit_of_lru ? 0 : kAllowance);
    account_ = std::min(account_, std::max(stake, kCreditRequests * request_));
    if (account_ < -stake && step_ > 0) {
      set_step(step_ - 1);
    } else if (account_ > 0.9 * stake && step_ + 1 < kFreedoms.size()) {
      set_step(step_ + 1);
    }
  }

  /// 0: the policy must be LRU.
  double freedom() const noexcept { return kFreedoms[step_]; }
  std::uint64_t changes() const noexcept { return changes_; }  ///< Within the step, so far.

 private:
  static constexpr double kRequestWeight = 1.0 / 64;

  void set_step(std::size_t step) noexcept {
    step_ = step;
    ++changes_;
    if (step != 0) account_ = 0;
  }

  std::size_t step_ = kFreedoms.size() - 1;
  double account_ = 0;
  double request_ = 0;  ///< Mean columns of late.
  std::uint64_t changes_ = 0;
};

}  // namespace larder::cache
