#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/tools/size.h"

namespace larder::tools {
namespace {

// In pixels. The left axis is for hit rates, the right one for speed-ups.
constexpr double kWidth = 900;
constexpr double kHeight = 520;
constexpr double kLeft = 70;
constexpr double kRight = 820;
constexpr double kTop = 90;
constexpr double kBottom = 450;
constexpr double kLegendItem = 110;
constexpr std::size_t kLabelsMax = 9;  ///< Along the axis of capacities.

/// From Okabe and Ito's palette, whose colours people with any colour vision can distinguish.
constexpr std::array<std::string_view, 6> kColors = {"#0072B2", "#E69F00", "#009E73",
                                                     "#CC79A7", "#D55E00", "#56B4E9"};
constexpr std::string_view kOptimumColor = "#333333";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : printable(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

class Chart {
 public:
  Chart(const SizeOptions& options, const SizeResult& result)
      : options_(options), result_(result), rate_max_(rate(result.hits_max)) {
    // About six steps, each a round number.
    for (const double step : {0.01, 0.02, 0.05, 0.1, 0.2}) {
      step_ = step;
      if (rate_max_ <= 6 * step) break;
    }
    top_ = std::max(1.0, std::ceil(rate_max_ / step_)) * step_;
    first_ = log2_of(result.points.front());
    last_ = log2_of(result.points.back());
    if (first_ == last_) {
      first_ -= 1;
      last_ += 1;
    }
  }

  std::string draw() {
    begin();
    rates();
    capacities();
    bound();
    for (std::size_t column = 0; column < result_.columns.size(); ++column) curve(column);
    svg_ += "</svg>\n";
    return std::move(svg_);
  }

 private:
  static double log2_of(const SizePoint& point) {
    return std::log2(static_cast<double>(point.capacity_bytes));
  }
  double rate(std::uint64_t hits) const {
    return static_cast<double>(hits) / static_cast<double>(result_.references);
  }
  double x(const SizePoint& point) const {
    return kLeft + (kRight - kLeft) * (log2_of(point) - first_) / (last_ - first_);
  }
  double y(double rate) const { return kBottom - (kBottom - kTop) * rate / top_; }

  template <class... Arguments>
  void add(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(svg_), format, std::forward<Arguments>(arguments)...);
  }
  void text(double at_x, double at_y, std::string_view anchor, std::string_view words) {
    add("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", at_x, at_y, anchor,
        words);
  }

  void begin() {
    const std::string name = escaped(options_.trace_path);
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
        "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"13\" "
        "fill=\"#222222\">\n<title>Hit rate of {2} by capacity</title>\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        kWidth, kHeight, name);
    text(kLeft, 28, "start",
         fmt::format(
             "{}: {}, {} of {}, {} distinct", name, format_count(result_.requests, "request"),
             format_count(result_.references, "block"), format_bytes_exact(options_.block_bytes),
             format_bytes(result_.blocks * options_.block_bytes)));
    text(kLeft, kTop - 14, "end", "hit rate");
    text(kRight, kTop - 14, "start", "speed-up");
    text((kLeft + kRight) / 2, kHeight - 18, "middle", "capacity");
  }

  void rates() {
    const auto steps = static_cast<int>(std::lround(top_ / step_));
    for (int i = 0; i <= steps; ++i) {
      const double at = y(i * step_);
      add("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#dddddd\"/>\n",
          kLeft, at, kRight, at);
      text(kLeft - 8, at + 4, "end", fmt::format("{:.0f} %", 100 * i * step_));
      if (i * step_ < 1) {
        text(kRight + 8, at + 4, "start", fmt::format("{:.2f} x", 1 / (1 - i * step_)));
      }
    }
  }

  void capacities() {
    const auto& points = result_.points;
    const std::size_t every = (points.size() + kLabelsMax - 1) / kLabelsMax;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double at = x(points[i]);
      add("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" "
          "stroke=\"#888888\"/>\n",
          at, kBottom, kBottom + 5);
      // The last one is the working set, so it has its label in any case.
      const bool is_last = i + 1 == points.size();
      const bool has_room = at + kLegendItem / 2 < x(points.back());
      if (is_last || (i % every == 0 && has_room)) {
        text(at, kBottom + 22, "middle", format_bytes(points[i].capacity_bytes));
      }
    }
  }

  void bound() {
    const double at = y(rate_max_);
    add("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#888888\" "
        "stroke-dasharray=\"2 4\"/>\n",
        kLeft, at, kRight, at);
    text(kLeft + 6, at - 5, "start",
         fmt::format("without a bound {:.2f} %, {:.2f} x", 100 * rate_max_,
                     prefill_speedup(result_, result_.hits_max)));
  }

  void curve(std::size_t column) {
    const bool is_optimum = column + 1 == result_.columns.size();
    const std::string_view color = is_optimum ? kOptimumColor : kColors[column % kColors.size()];
    const std::string_view dashes = is_optimum ? " stroke-dasharray=\"7 4\"" : "";
    const std::string name = escaped(result_.columns[column]);
    const double legend = kLeft + kLegendItem * static_cast<double>(column);
    add("<line x1=\"{:.1f}\" y1=\"48\" x2=\"{:.1f}\" y2=\"48\" stroke=\"{}\" "
        "stroke-width=\"2.5\"{}/>\n",
        legend, legend + 24, color, dashes);
    text(legend + 30, 52, "start", name);
    add("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\"{} points=\"", color, dashes);
    for (const SizePoint& point : result_.points) {
      add("{:.1f},{:.1f} ", x(point), y(rate(point.hits[column])));
    }
    svg_ += "\"/>\n";
    for (const SizePoint& point : result_.points) {
      const std::uint64_t hits = point.hits[column];
      add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"><title>{}, {}: {:.2f} % hit, "
          "{:.2f} x</title></circle>\n",
          x(point), y(rate(hits)), color, name, format_bytes(point.capacity_bytes),
          100 * rate(hits), prefill_speedup(result_, hits));
    }
  }

  const SizeOptions& options_;
  const SizeResult& result_;
  const double rate_max_;
  double step_ = 0;   ///< Between two lines of the grid.
  double top_ = 0;    ///< Hit rate at the upper end.
  double first_ = 0;  ///< Powers of two of bytes, at the left and at the right end.
  double last_ = 0;
  std::string svg_;
};

}  // namespace

std::string to_svg(const SizeOptions& options, const SizeResult& result) {
  return Chart{options, result}.draw();
}

}  // namespace larder::tools
