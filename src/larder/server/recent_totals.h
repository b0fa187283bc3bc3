#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "larder/cache/engine_stats.h"

namespace larder::server {

/// Totals whose growth over the last minutes is shown. Lookups are in chunks.
struct WatchedTotals {
  std::uint64_t asked = 0;
  std::uint64_t hit_l1 = 0;
  std::uint64_t hit_l2 = 0;
  std::array<std::uint64_t, cache::kMisses> missed{};
  std::uint64_t stores_failed = 0;
  std::uint64_t stores_lost = 0;
  std::uint64_t replies_dropped = 0;

  static WatchedTotals of(const cache::EngineTotals& engine,
                          std::uint64_t replies_dropped) noexcept;
  /// Since `before`.
  WatchedTotals operator-(const WatchedTotals& before) const noexcept;
  /// Shares of the tokens asked for; 0 if there were none.
  double l1_rate() const noexcept;
  double l2_rate() const noexcept;
};

/// How much totals grew within the last minutes, from samples of them.
///
/// An idle server does not wake up for a sample: it takes one at the next wake-up, before anything
/// else, and records since when the totals have been so.
/// Threads: one. Bounds: kWindowNsMax / kStepNs samples and two more.
class RecentTotals {
 public:
  static constexpr std::uint64_t kStepNs = 5'000'000'000;
  static constexpr std::uint64_t kWindowNsMax = 900'000'000'000;

  bool is_due(std::uint64_t now_ns) const noexcept { return now_ns >= next_ns_; }
  /// The totals have been so from `since_ns` until now.
  void note(std::uint64_t since_ns, std::uint64_t now_ns, const WatchedTotals& totals);
  /// The difference between `now` and the totals of `window_ns` ago, kWindowNsMax at most; exact to
  /// kStepNs. All of it if the first sample is younger.
  WatchedTotals growth(const WatchedTotals& now, std::uint64_t now_ns,
                       std::uint64_t window_ns) const noexcept;

 private:
  struct Sample {
    std::uint64_t since_ns = 0;
    WatchedTotals totals;
  };

  std::deque<Sample> samples_;  ///< Oldest first.
  std::uint64_t next_ns_ = 0;
};

}  // namespace larder::server
