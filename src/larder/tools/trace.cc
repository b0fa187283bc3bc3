#include "larder/tools/trace.h"

#include <array>
#include <charconv>
#include <optional>

#include "larder/base/size_text.h"
#include "larder/connector/connector.h"
#include "larder/tools/line_source.h"

namespace larder::tools {
namespace {

enum Field : std::size_t { kTimestamp = 0, kInputLength, kOutputLength, kHashIds, kFieldCount };
constexpr std::array<std::string_view, kFieldCount> kFieldNames = {"timestamp", "input_length",
                                                                   "output_length", "hash_ids"};

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// What an error message shows of the place where reading stopped. Control characters and the like
/// come from the file and are not repeated.
std::string shown(std::string_view rest) {
  if (rest.empty()) return "the end of the line";
  std::string text = "'";
  for (const char c : rest.substr(0, 12)) text += (c >= ' ' && c <= '~') ? c : '?';
  return text + "'";
}

/// A cursor over one line that knows just the JSON that a trace is made of.
class LineParser {
 public:
  explicit LineParser(std::string_view line) : line_(line) {}

  SetupResult<TraceRequest> parse() {
    LARDER_TRY(expect('{', "'{'"));
    std::array<bool, kFieldCount> seen{};
    do {
      LARDER_ASSIGN(const std::size_t field, field_name());
      if (seen[field])
        return error("field \"" + std::string{kFieldNames[field]} + "\" comes twice");
      seen[field] = true;
      LARDER_TRY(expect(':', "':'"));
      LARDER_TRY(field_value(field));
    } while (accept(','));
    LARDER_TRY(expect('}', "',' or '}'"));
    skip_spaces();
    if (at_ != line_.size()) return expected("nothing after '}'");
    for (std::size_t field = 0; field < kFieldCount; ++field) {
      if (!seen[field]) {
        return invalid("field \"" + std::string{kFieldNames[field]} + "\" is missing");
      }
    }
    LARDER_TRY(check_block_count());
    return std::move(request_);
  }

 private:
  void skip_spaces() {
    while (at_ < line_.size() && (line_[at_] == ' ' || line_[at_] == '\t' || line_[at_] == '\r')) {
      ++at_;
    }
  }

  bool accept(char c) {
    skip_spaces();
    if (at_ == line_.size() || line_[at_] != c) return false;
    ++at_;
    return true;
  }

  SetupStatus expect(char c, std::string_view name) {
    if (!accept(c)) return expected(name);
    return {};
  }

  SetupResult<std::size_t> field_name() {
    LARDER_TRY(expect('"', "a field name in quotes"));
    const std::size_t end = line_.find('"', at_);
    if (end == std::string_view::npos) return error("a field name without its closing quote");
    const std::string_view name = line_.substr(at_, end - at_);
    for (std::size_t field = 0; field < kFieldCount; ++field) {
      if (name == kFieldNames[field]) {
        at_ = end + 1;
        return field;
      }
    }
    return expected("one of timestamp, input_length, output_length, hash_ids");
  }

  SetupStatus field_value(std::size_t field) {
    if (field == kHashIds) return block_list();
    LARDER_ASSIGN(const std::uint64_t value, number());
    if (field == kTimestamp) request_.timestamp_ms = value;
    if (field == kInputLength) request_.input_tokens = value;
    if (field == kOutputLength) request_.output_tokens = value;
    return {};
  }

  SetupStatus block_list() {
    LARDER_TRY(expect('[', "'['"));
    if (accept(']')) return {};
    do {
      if (request_.blocks.size() == kItemsMax) return error("more than 2^20 ids in one request");
      LARDER_ASSIGN(const std::uint64_t id, number());
      request_.blocks.push_back(id);
    } while (accept(','));
    return expect(']', "',' or ']'");
  }

  SetupResult<std::uint64_t> number() {
    skip_spaces();
    std::uint64_t value = 0;
    const char* const end = line_.data() + line_.size();
    const auto [next, code] = std::from_chars(line_.data() + at_, end, value);
    if (code == std::errc::result_out_of_range) return error("a number above 2^64 - 1");
    if (code != std::errc{}) return expected("a whole number");
    if (next != end && (*next == '.' || *next == 'e' || *next == 'E')) {
      return expected("a whole number");
    }
    at_ = static_cast<std::size_t>(next - line_.data());
    return value;
  }

  SetupStatus check_block_count() const {
    const std::uint64_t needed = request_.input_tokens / kTokensPerBlock +
                                 (request_.input_tokens % kTokensPerBlock == 0 ? 0 : 1);
    if (needed == 0) return invalid("input_length is 0: a request has at least one token");
    if (request_.blocks.size() != needed) {
      return invalid("input_length " + std::to_string(request_.input_tokens) + " is " +
                     format_count(needed, "block") + " of 512 tokens, but hash_ids has " +
                     std::to_string(request_.blocks.size()));
    }
    return {};
  }

  SetupError error(const std::string& what) const {
    return invalid("column " + std::to_string(at_ + 1) + ": " + what);
  }
  SetupError expected(std::string_view what) const {
    return error("expected " + std::string{what} + ", found " + shown(line_.substr(at_)));
  }

  std::string_view line_;
  std::size_t at_ = 0;
  TraceRequest request_;
};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

SetupResult<TraceRequest> parse_trace_line(std::string_view line) {
  return LineParser{line}.parse();
}

SetupResult<std::vector<TraceRequest>> read_trace(const std::string& path,
                                                  std::uint64_t requests_max,
                                                  const std::atomic<bool>& stop) {
  LARDER_ASSIGN(const std::unique_ptr<LineSource> source, LineSource::open(path, stop));
  std::vector<TraceRequest> requests;
  std::uint64_t line_number = 0;
  while (requests.size() < requests_max) {
    LARDER_ASSIGN(const std::optional<std::string_view> line, source->next());
    if (!line) break;
    ++line_number;
    if (is_blank(*line)) continue;
    auto request = parse_trace_line(*line);
    const std::string place = path + ":" + std::to_string(line_number) + ": ";
    if (!request) return invalid(place + request.error().text);
    if (!requests.empty() && request->timestamp_ms < requests.back().timestamp_ms) {
      return invalid(place + "timestamp " + std::to_string(request->timestamp_ms) +
                     " is before the previous request's " +
                     std::to_string(requests.back().timestamp_ms));
    }
    requests.push_back(std::move(*request));
  }
  if (requests.empty()) return invalid(path + ": no requests in it");
  return requests;
}

}  // namespace larder::tools
