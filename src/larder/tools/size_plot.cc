#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/tools/size.h"

namespace larder::tools {
namespace {

constexpr std::size_t kColumnsMax = 100;  ///< Longer bars show no more.
constexpr std::size_t kBarMin = 16;
constexpr std::size_t kLabel = 12;  ///< With the spaces around it.

/// The cell at one position of a bar: which of the three reach so far.
struct Marks {
  std::string_view both;    ///< LRU and the policy.
  std::string_view policy;  ///< The policy alone.
  std::string_view lru;     ///< LRU alone.
  std::string_view optimum;
};
constexpr Marks kBlocks{"█", "▓", "▒", "░"};
constexpr Marks kAscii{"#", "+", "-", "."};

class Plot {
 public:
  Plot(const SizeResult& result, const PlotStyle& style)
      : result_(result),
        marks_(style.is_unicode ? kBlocks : kAscii),
        columns_(std::min(style.columns, kColumnsMax)),
        // The last column stays empty: some terminals go to the next line when it is written.
        bar_(columns_ > kLabel + 1 ? columns_ - kLabel - 1 : 0),
        policy_(result.columns.size() > 2 ? 1 : 0) {
    const double most = rate(result.hits_max);
    top_ = most <= 0 ? 0.1 : std::min(1.0, std::ceil(most * 20) / 20);  // A multiple of 5 %.
  }

  std::string draw() const {
    if (bar_ < kBarMin || result_.points.empty()) return {};
    std::string text = "hit rate by capacity\n" + legend();
    for (const SizePoint& point : result_.points) text += row(point);
    const std::string end = fmt::format("{:.0f} %", 100 * top_);
    return text + fmt::format("{:>{}}0 %{:>{}}\n", "", kLabel, end, bar_ - 3);
  }

 private:
  double rate(std::uint64_t hits) const {
    return static_cast<double>(hits) / static_cast<double>(result_.references);
  }
  std::size_t length(std::uint64_t hits) const {
    return static_cast<std::size_t>(std::lround(rate(hits) / top_ * static_cast<double>(bar_)));
  }

  std::string row(const SizePoint& point) const {
    const std::size_t lru = length(point.hits.front());
    const std::size_t policy = length(point.hits[policy_]);
    const std::size_t optimum = length(point.hits.back());
    std::string bar;
    for (std::size_t at = 0; at < std::max({lru, policy, optimum}); ++at) {
      if (at < lru && at < policy) {
        bar += marks_.both;
      } else if (at < policy) {
        bar += marks_.policy;
      } else {
        bar += at < lru ? marks_.lru : marks_.optimum;
      }
    }
    return fmt::format("{:>{}} {}\n", format_bytes(point.capacity_bytes), kLabel - 1, bar);
  }

  /// As many on a line as fit.
  std::string legend() const {
    const std::string& lru = result_.columns.front();
    const std::string& policy = result_.columns[policy_];
    std::vector<std::pair<std::string_view, std::string>> items;
    if (policy_ == 0) {
      items = {{marks_.both, lru}};
    } else {
      items = {{marks_.both, lru + " and " + policy},
               {marks_.policy, policy + " alone"},
               {marks_.lru, lru + " alone"}};
    }
    items.emplace_back(marks_.optimum, result_.columns.back());
    std::string text;
    std::size_t taken = 0;
    for (const auto& [mark, words] : items) {
      const std::size_t width = 3 + words.size() + 1;  // Two spaces, the mark, a space.
      if (taken + width > columns_ - 1 && taken > 0) {
        text += '\n';
        taken = 0;
      }
      text += fmt::format("  {} {}", mark, words);
      taken += width;
    }
    return text + '\n';
  }

  const SizeResult& result_;
  const Marks& marks_;
  const std::size_t columns_;
  const std::size_t bar_;     ///< Places of the longest bar.
  const std::size_t policy_;  ///< Its column; 0: there is none beside LRU.
  double top_ = 0;            ///< The hit rate at the right end.
};

}  // namespace

std::string to_plot(const SizeResult& result, const PlotStyle& style) {
  return Plot{result, style}.draw();
}

}  // namespace larder::tools
