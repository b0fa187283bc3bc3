#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"

namespace larder::tools {

/// Tokens of a block in Mooncake's traces, and in every trace that does not say otherwise.
inline constexpr std::uint32_t kDefaultBlockTokens = 512;
inline constexpr std::uint32_t kBlockTokensMax = std::uint32_t{1} << 24;

/// One request of a trace: a prompt, as a chain of prefix blocks. Equal ids stand for equal KV
/// cache; the last block of a prompt may be shorter than the others.
struct TraceRequest {
  std::uint64_t timestamp_ns = 0;
  std::uint64_t input_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::vector<std::uint64_t> blocks;
  std::uint32_t block_tokens = kDefaultBlockTokens;  ///< The same in the whole trace.

  friend bool operator==(const TraceRequest&, const TraceRequest&) = default;
};

/// Tokens of the request's first `blocks` blocks.
inline std::uint64_t tokens_of(const TraceRequest& request, std::size_t blocks) noexcept {
  return std::min<std::uint64_t>(blocks * request.block_tokens, request.input_tokens);
}

/// When the request is due, in nanoseconds after the first one of its trace, at `speed` times the
/// trace's own speed. `speed` is above 0.
inline std::uint64_t due_ns(const TraceRequest& request, const TraceRequest& first,
                            double speed) noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(request.timestamp_ns - first.timestamp_ns) /
                                    speed);
}

/// Which trace, and how it is read.
struct TraceOptions {
  /// JSON lines, plain or compressed with zstd or gzip; "-" is standard input.
  std::string trace_path;
  std::uint64_t requests_max = std::numeric_limits<std::uint64_t>::max();
  /// Tokens of one block, at most kBlockTokensMax; 0: the trace's own block_size, and
  /// kDefaultBlockTokens where it has none.
  std::uint32_t block_tokens = 0;
  /// Of timestamps that are numbers. At least 1.
  std::uint64_t timestamp_unit_ns = 1'000'000;
};

/// The value of `--timestamp-unit`: "s", "ms", "us" or "ns".
SetupResult<std::uint64_t> parse_timestamp_unit(std::string_view text);
/// The value of `--block-tokens`: 1 to kBlockTokensMax.
SetupResult<std::uint32_t> parse_block_tokens(std::string_view text);

struct Trace {
  std::vector<TraceRequest> requests;  ///< By rising timestamp; never empty.
  std::uint32_t block_tokens = kDefaultBlockTokens;
  std::uint64_t sessions = 0;      ///< Distinct values of session_id; 0: the trace has none.
  std::vector<std::string> notes;  ///< Omissions and corrections, for people.
};

/// One line, as it is written.
struct TraceLine {
  TraceRequest request;  ///< Its block_tokens and absent fields have their defaults.
  bool has_timestamp = false;
  bool is_date = false;  ///< The timestamp was a date, not a number.
  std::optional<std::uint32_t> block_size;
  std::optional<std::uint64_t> session;          ///< A hash of session_id.
  std::vector<std::string_view> ignored_fields;  ///< In the line, as written there.
};

/// Parses one line: a JSON object with the field hash_ids, a list, and any of timestamp,
/// input_length, output_length, block_size and session_id; other fields are skipped. A field whose
/// value is null counts as absent.
///
/// hash_ids: whole numbers from -2^63 to 2^64 - 1, or texts. A text of digits is that number, and
///   any other text counts by its 64-bit hash.
/// timestamp: a number of `timestamp_unit_ns`, a text of that number, or a date with a time of day
///   (parse_date_time_ns()).
/// Errors name the column and the expected text; the caller adds file and line.
SetupResult<TraceLine> parse_trace_line(std::string_view line,
                                        std::uint64_t timestamp_unit_ns = 1'000'000);

/// Reads up to `requests_max` requests from the options' file, recognised as zstd or gzip by its
/// content, not by its name; all of its frames and members. A byte order mark, CR before LF and
/// empty lines are skipped.
///
/// Lines out of order are sorted by timestamp, those of equal ones in the order of the file; a line
///   without a timestamp has that of the line before it. Requests without a block are left out.
/// A request has an id for each block of its input, or for each full one; anything else means
///   another block size, and is an error.
/// The notes list all of that. Errors begin with "PATH:LINE: " where they are about a line. Ends
/// with kCancelled once `stop` is set.
SetupResult<Trace> read_trace(const TraceOptions& options, const std::atomic<bool>& stop);

}  // namespace larder::tools
