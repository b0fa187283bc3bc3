#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"

namespace larder::tools {

/// Tokens that one id of a trace's `hash_ids` stands for.
inline constexpr std::uint64_t kTokensPerBlock = 512;

/// One request of a trace in Mooncake's format: a prompt, as a chain of prefix blocks. Equal ids
/// stand for equal KV cache; the last block of a prompt may be shorter than kTokensPerBlock.
struct TraceRequest {
  std::uint64_t timestamp_ms = 0;
  std::uint64_t input_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::vector<std::uint64_t> blocks;

  friend bool operator==(const TraceRequest&, const TraceRequest&) = default;
};

/// Tokens of the request's first `blocks` blocks.
inline std::uint64_t tokens_of(const TraceRequest& request, std::size_t blocks) noexcept {
  return std::min<std::uint64_t>(blocks * kTokensPerBlock, request.input_tokens);
}

/// When the request is due, in nanoseconds after the first one of its trace, at `speed` times the
/// trace's own speed. `speed` is above 0.
inline std::uint64_t due_ns(const TraceRequest& request, const TraceRequest& first,
                            double speed) noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(request.timestamp_ms - first.timestamp_ms) *
                                    1e6 / speed);
}

/// Reads one line: a JSON object with exactly the fields timestamp, input_length, output_length and
/// hash_ids, in any order, and as many ids as the input has blocks. Errors name the column and what
/// was expected there; the caller adds file and line.
SetupResult<TraceRequest> parse_trace_line(std::string_view line);

/// Reads up to `requests_max` requests from JSON lines, plain or compressed with zstd (told by the
/// content, not by the name); "-" is standard input. Empty lines are skipped. Timestamps may not go
/// back. Errors begin with "PATH:LINE: ". Ends with kCancelled once `stop` is set.
SetupResult<std::vector<TraceRequest>> read_trace(const std::string& path,
                                                  std::uint64_t requests_max,
                                                  const std::atomic<bool>& stop);

}  // namespace larder::tools
