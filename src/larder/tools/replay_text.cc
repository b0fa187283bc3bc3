#include "larder/tools/replay_text.h"

#include <fmt/format.h>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"

namespace larder::tools {

std::string hit_line(const std::string& name, const HitCount& hit, const HitCount& total) {
  return fmt::format("  {:<34}{:6.2f} % of tokens {:7.2f} % of blocks   {}\n", name,
                     100 * ratio(hit.tokens, total.tokens), 100 * ratio(hit.blocks, total.blocks),
                     format_count(hit.blocks, "block"));
}

std::string latency_line(const char* name, const LogLinearHistogram& latency) {
  if (latency.count() == 0) return {};
  return fmt::format("  {:<8} p50 {:>10}   p90 {:>10}   p99 {:>10}   max {:>10}   ({})\n", name,
                     format_duration_ns(latency.quantile(0.5)),
                     format_duration_ns(latency.quantile(0.9)),
                     format_duration_ns(latency.quantile(0.99)), format_duration_ns(latency.max()),
                     format_count(latency.count(), "request"));
}

std::string failures_text(const std::string& name, const Failures& failures,
                          const std::string& where) {
  std::string text;
  for (const auto& [code, failure] : failures) {
    text += fmt::format("FAILED: {}{}{}: {}; the first: {}\n", where, where.empty() ? "" : ": ",
                        format_count(failure.count, name), error_code_name(code),
                        printable(failure.first));
  }
  return text;
}

double seconds_saved(const ReplayInput& options, const HitCount& hit) noexcept {
  return static_cast<double>(hit.tokens) / options.tokens_per_second;
}

std::string saved_text(const ReplayInput& options, const HitCount& hit, std::uint64_t busy_ns) {
  return fmt::format(
      "saved\n  {:.0f} s of prefill, at an assumed {:.0f} tokens/s (--tokens-per-second), for "
      "{:.1f} s of loading\n",
      seconds_saved(options, hit), options.tokens_per_second, seconds(busy_ns));
}

std::string wrong_bytes_text(std::uint64_t mismatches, const std::string& first) {
  if (mismatches == 0) return {};
  return fmt::format("WRONG BYTES: {} did not hold what was stored. First: {}\n",
                     format_count(mismatches, "hit"), first);
}

std::string interrupted_text(const std::string& interrupted_by) {
  if (interrupted_by.empty()) return {};
  return fmt::format("  INTERRUPTED by {}: this is what was measured until then\n", interrupted_by);
}

std::string notes_text(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace larder::tools
