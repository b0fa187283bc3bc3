#include "larder/server/recent_totals.h"

#include <algorithm>

namespace larder::server {
namespace {

double share(std::uint64_t part, std::uint64_t whole) noexcept {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

WatchedTotals WatchedTotals::of(const cache::EngineTotals& engine,
                                std::uint64_t replies_dropped) noexcept {
  return {.asked = engine.asked,
          .hit_l1 = engine.hit_l1,
          .hit_l2 = engine.hit_l2,
          .missed = engine.missed,
          .stores_failed = engine.l2_store_failed,
          .stores_lost = engine.l2_store_lost,
          .replies_dropped = replies_dropped};
}

WatchedTotals WatchedTotals::operator-(const WatchedTotals& before) const noexcept {
  WatchedTotals grown = *this;
  grown.asked -= before.asked;
  grown.hit_l1 -= before.hit_l1;
  grown.hit_l2 -= before.hit_l2;
  for (std::size_t i = 0; i < missed.size(); ++i) grown.missed[i] -= before.missed[i];
  grown.stores_failed -= before.stores_failed;
  grown.stores_lost -= before.stores_lost;
  grown.replies_dropped -= before.replies_dropped;
  return grown;
}

double WatchedTotals::l1_rate() const noexcept {
  return share(hit_l1, asked);
}

double WatchedTotals::l2_rate() const noexcept {
  return share(hit_l2, asked);
}

void RecentTotals::note(std::uint64_t since_ns, std::uint64_t now_ns, const WatchedTotals& totals) {
  samples_.push_back({since_ns, totals});
  next_ns_ = now_ns + kStepNs;
  // The newest one beyond the longest window is where that window begins.
  while (samples_.size() > 1 && samples_[1].since_ns + kWindowNsMax <= now_ns) samples_.pop_front();
}

WatchedTotals RecentTotals::growth(const WatchedTotals& now, std::uint64_t now_ns,
                                   std::uint64_t window_ns) const noexcept {
  const auto later = std::ranges::find_if(
      samples_, [&](const Sample& sample) { return sample.since_ns + window_ns > now_ns; });
  return later == samples_.begin() ? now : now - std::prev(later)->totals;
}

}  // namespace larder::server
