#include "larder/connector/load_model.h"

#include <algorithm>

#include "larder/base/clock.h"

namespace larder {
namespace {

constexpr double kOlder = 31.0 / 32.0;
/// Costs that differ less than this from their mean say nothing about the bandwidth.
constexpr double kSpreadMin = 0.05;

}  // namespace

void LoadModel::add(std::uint64_t cost, std::uint64_t took_ns, std::uint64_t now_ns) noexcept {
  if (weight_ > 0 && now_ns - std::min(now_ns, last_ns_) >= kForgottenNs) *this = {};
  const auto x = static_cast<double>(cost);
  const auto y = static_cast<double>(took_ns);
  weight_ = weight_ * kOlder + 1;
  cost_ = cost_ * kOlder + x;
  time_ = time_ * kOlder + y;
  cost_squared_ = cost_squared_ * kOlder + x * x;
  cost_by_time_ = cost_by_time_ * kOlder + x * y;
  last_ns_ = now_ns;
}

std::uint64_t LoadModel::load_ns(std::uint64_t cost, std::uint64_t now_ns) const noexcept {
  if (weight_ == 0 || now_ns - std::min(now_ns, last_ns_) >= kForgottenNs) return kNever;
  const auto x = static_cast<double>(cost);
  const double mean_cost = cost_ / weight_;
  const double mean_time = time_ / weight_;
  const double variance = cost_squared_ / weight_ - mean_cost * mean_cost;
  const double covariance = cost_by_time_ / weight_ - mean_cost * mean_time;
  const double spread = kSpreadMin * mean_cost;
  double result = mean_time * std::max(1.0, x / std::max(mean_cost, 1.0));
  if (variance > spread * spread && covariance > 0) {
    const double ns_per_byte = covariance / variance;
    const double latency = mean_time - ns_per_byte * mean_cost;
    // A latency below 0 is an artefact of few loads: all of the time is transfer then.
    result = latency >= 0 ? latency + ns_per_byte * x : mean_time * x / std::max(mean_cost, 1.0);
  }
  constexpr double kMost = 1e18;  // Thirty years; kNever means something else.
  return static_cast<std::uint64_t>(std::clamp(result, 0.0, kMost));
}

}  // namespace larder
