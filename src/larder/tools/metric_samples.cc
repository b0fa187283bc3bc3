#include "larder/tools/metric_samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "larder/base/key_text.h"

namespace larder::tools {
namespace {

constexpr std::string_view kPrefix = "larder_";
/// Of a wrong line, which may be the whole of some other file.
constexpr std::size_t kShownBytes = 100;

/// name{label="value",...} value [time]. Nothing: the line is not of this form.
class SampleParser {
 public:
  explicit SampleParser(std::string_view line) : rest_(line) {}

  std::optional<MetricSample> parse() {
    MetricSample sample;
    sample.name = take_while([](char c) { return c != '{' && c != ' ' && c != '\t'; });
    if (sample.name.empty()) return std::nullopt;
    if (take('{') && !parse_labels(sample.labels)) return std::nullopt;
    skip_spaces();
    const std::string number = take_while([](char c) { return c != ' ' && c != '\t'; });
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), sample.value);
    if (error == std::errc{} && end == number.data() + number.size()) {
      if (!std::isfinite(sample.value)) sample.value = std::nan("");  // "inf" is read, too.
      return sample;
    }
    if (number != "+Inf" && number != "-Inf" && number != "NaN") return std::nullopt;
    sample.value = std::nan("");
    return sample;
  }

 private:
  bool parse_labels(std::map<std::string, std::string>& labels) {
    while (!take('}')) {
      const std::string name = take_while([](char c) { return c != '=' && c != '}'; });
      if (name.empty() || !take('=') || !take('"')) return false;
      std::string& value = labels[name];
      while (!take('"')) {
        if (rest_.empty()) return false;
        const bool is_escaped = take('\\');
        if (rest_.empty()) return false;
        value += is_escaped && rest_.front() == 'n' ? '\n' : rest_.front();
        rest_.remove_prefix(1);
      }
      if (!take(',') && !rest_.starts_with('}')) return false;
    }
    return true;
  }

  void skip_spaces() {
    while (take(' ') || take('\t')) {
    }
  }
  bool take(char wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  template <class Wanted>
  std::string take_while(Wanted is_wanted) {
    const auto end = std::ranges::find_if_not(rest_, is_wanted);
    std::string taken{rest_.begin(), end};
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view rest_;
};

SetupError wrong_line(std::size_t number, std::string_view row) {
  const bool is_long = row.size() > kShownBytes;
  return {ErrorCode::kInvalidArgument,
          fmt::format("line {}: not of Prometheus' text format: {}{}", number,
                      printable(row.substr(0, kShownBytes)), is_long ? "..." : "")};
}

}  // namespace

SetupResult<std::vector<MetricSample>> read_samples(std::string_view text) {
  std::vector<MetricSample> samples;
  std::optional<SetupError> foreign;  // The first line that is no metric of anybody's.
  bool has_others = false;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (row.ends_with('\r')) row.remove_suffix(1);
    if (!row.starts_with(kPrefix)) {
      if (has_others || foreign || row.empty() || row.starts_with('#')) continue;
      has_others = SampleParser{row}.parse().has_value();
      if (!has_others) foreign = wrong_line(number, row);
      continue;
    }
    auto sample = SampleParser{row.substr(kPrefix.size())}.parse();
    if (!sample) return wrong_line(number, row);
    if (samples.size() == kMetricSamplesMax) {
      return SetupError{
          ErrorCode::kInvalidArgument,
          fmt::format("line {}: more than {} numbers of larder's", number, kMetricSamplesMax)};
    }
    samples.push_back(*std::move(sample));
  }
  if (samples.empty() && foreign) return *foreign;
  return samples;
}

}  // namespace larder::tools
