#include "larder/tools/replay.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <memory>

#include "larder/base/size_text.h"
#include "larder/tools/foreign_keys.h"
#include "larder/tools/open_connector.h"
#include "larder/tools/open_rehearsal.h"

namespace larder::tools {

SetupResult<double> parse_speed(std::string_view text) {
  if (text == "max") return 0.0;
  if (text == "trace") return 1.0;
  double factor = 0;
  const char* const end = text.data() + text.size();
  const auto [next, code] = std::from_chars(text.data(), end, factor);
  const bool has_unit = next + 1 == end && (*next == 'x' || *next == 'X');
  if (code == std::errc{} && (has_unit || next == end) && std::isfinite(factor) && factor > 0) {
    return factor;
  }
  return SetupError{
      ErrorCode::kInvalidArgument,
      "--speed \"" + std::string{text} + "\": expected max, trace, or a factor such as 20x"};
}

SetupStatus check_block_bytes(const ReplayOptions& options, std::uint64_t value_bytes_max) {
  if (options.block_bytes <= value_bytes_max) return {};
  return SetupError{
      ErrorCode::kInvalidArgument,
      fmt::format("--block-bytes {} is above the connector's largest value {}",
                  format_bytes_exact(options.block_bytes), format_bytes_exact(value_bytes_max))};
}

void count_failure(const Error& error, FailureCount& failures) {
  if (failures.count++ == 0) failures.first = error.to_string();
}

bool ReplayResult::is_every_store_refused() const {
  return blocks_refused.count > 0 && blocks_stored == 0 && blocks_already_there == 0;
}

bool ReplayResult::is_good() const {
  return mismatches == 0 && !is_every_store_refused() && lookup.failures.empty() &&
         load.failures.empty() && store.failures.empty();
}

SetupResult<ReplayResult> replay(const ReplayOptions& options, const std::atomic<bool>& stop) {
  LARDER_ASSIGN(const Trace trace, read_trace(options, stop));
  LARDER_ASSIGN(const ReadSpec read, read_spec(options.spec));
  const auto limits = rehearse_open(read);  // No store is made for blocks that it would refuse.
  if (!limits && limits.error().code != ErrorCode::kUnavailable) return limits.error();
  if (limits && *limits) LARDER_TRY(check_block_bytes(options, (*limits)->value_bytes_max));
  LARDER_ASSIGN(const std::unique_ptr<Connector> connector, open_connector(options.spec));
  SetupResult<ReplayResult> result = ReplayResult{};
  SetupStatus allowed;
  if (!options.allow_eviction) {
    allowed = check_no_foreign_keys(*connector, options.key_prefix, "a replay", stop);
  }
  if (allowed) result = replay(options, trace.requests, *connector, stop);
  LARDER_TRY(stop_connector(*connector));
  if (!allowed) return allowed.error();
  if (result) result->trace_notes = trace.notes;
  return result;
}

}  // namespace larder::tools
