#include "larder/tools/trace.h"

#include <array>
#include <charconv>
#include <set>
#include <span>
#include <unordered_set>
#include <utility>

#include "larder/base/hash.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/connector/connector.h"
#include "larder/tools/line_source.h"
#include "larder/tools/trace_time.h"

namespace larder::tools {
namespace {

constexpr unsigned kDepthMax = 64;  ///< Depth of a value that is skipped.
constexpr std::size_t kNamedFieldsMax = 8;
constexpr std::size_t kDifferentFieldsMax = 1000;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kNumberCharacters = "+-.0123456789Ee";

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// The excerpt in an error message of the place where reading stopped. Control characters and the
/// like come from the file and are not repeated.
std::string shown(std::string_view rest) {
  if (rest.empty()) return "the end of the line";
  std::string text = "'";
  for (const char c : rest.substr(0, 12)) text += (c >= ' ' && c <= '~') ? c : '?';
  return text + "'";
}

/// The whole of a text as a number.
template <class T>
std::optional<T> to_number(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [next, code] = std::from_chars(text.data(), end, value);
  if (code != std::errc{} || next != end) return std::nullopt;
  return value;
}

std::uint64_t hash_of(std::string_view text) {
  return hash64(std::as_bytes(std::span{text}));
}

/// A cursor over one line of JSON.
class LineParser {
 public:
  LineParser(std::string_view line, std::uint64_t timestamp_unit_ns)
      : line_(line), timestamp_unit_ns_(timestamp_unit_ns) {}

  SetupResult<TraceLine> parse() {
    LARDER_TRY(expect('{', "'{'"));
    std::array<bool, kFields.size()> seen{};
    do {
      LARDER_TRY(expect('"', "a field name in quotes"));
      LARDER_ASSIGN(const std::string_view name, rest_of_text("a field name"));
      LARDER_TRY(expect(':', "':'"));
      const auto field = std::ranges::find(kFields, name, &Field::name);
      if (field == kFields.end()) {
        parsed_.ignored_fields.push_back(name);
        LARDER_TRY(skip_value());
        continue;
      }
      bool& is_known = seen[static_cast<std::size_t>(field - kFields.begin())];
      if (is_known) return error("field \"" + std::string{name} + "\" comes twice");
      is_known = true;
      if (accept_word("null")) continue;
      LARDER_TRY((this->*field->read)());
    } while (accept(','));
    LARDER_TRY(expect('}', "',' or '}'"));
    skip_spaces();
    if (at_ != line_.size()) return expected("nothing after '}'");
    if (!has_ids_) return invalid("field \"hash_ids\" is missing");
    return std::move(parsed_);
  }

 private:
  struct Field {
    std::string_view name;
    SetupStatus (LineParser::*read)();
  };

  // The fields.

  SetupStatus read_timestamp() {
    LARDER_ASSIGN(const Scalar scalar, scalar_value("a number, or a date in quotes"));
    parsed_.has_timestamp = true;
    std::optional<std::uint64_t> ns;
    if (const auto whole = to_number<std::uint64_t>(scalar.text)) {
      ns = scale_to_ns(*whole, timestamp_unit_ns_);
    } else if (const auto number = to_number<double>(scalar.text)) {
      ns = scale_to_ns(*number, timestamp_unit_ns_);
    } else if (scalar.is_text) {
      ns = parse_date_time_ns(scalar.text);
      parsed_.is_date = true;
    }
    if (ns) {
      parsed_.request.timestamp_ns = *ns;
      return {};
    }
    at_ = scalar.begin;
    return expected(
        "a timestamp, which is a number from 0 to 2^63 ns or a date such as "
        "\"2024-05-10T00:00:00.5Z\"");
  }

  SetupStatus read_input_length() {
    LARDER_TRY(read_whole(parsed_.request.input_tokens));
    if (parsed_.request.input_tokens > 0) return {};
    return invalid("input_length is 0: a request has at least one token");
  }

  SetupStatus read_output_length() { return read_whole(parsed_.request.output_tokens); }

  SetupStatus read_block_size() {
    skip_spaces();
    const std::size_t begin = at_;
    std::uint64_t tokens = 0;
    LARDER_TRY(read_whole(tokens));
    if (tokens > 0 && tokens <= kBlockTokensMax) {
      parsed_.block_size = static_cast<std::uint32_t>(tokens);
      return {};
    }
    at_ = begin;
    return expected("the tokens of a block, 1 to " + std::to_string(kBlockTokensMax));
  }

  SetupStatus read_session() {
    LARDER_ASSIGN(const Scalar scalar, scalar_value("a number, or a text in quotes"));
    parsed_.session = hash_of(scalar.text);
    return {};
  }

  SetupStatus read_ids() {
    has_ids_ = true;
    LARDER_TRY(expect('[', "'['"));
    if (accept(']')) return {};
    do {
      if (parsed_.request.blocks.size() == kItemsMax) {
        return error("more than 2^20 ids in one request");
      }
      LARDER_ASSIGN(const Scalar scalar, scalar_value("a whole number, or an id in quotes"));
      if (const auto id = to_number<std::uint64_t>(scalar.text)) {
        parsed_.request.blocks.push_back(*id);
      } else if (const auto negative = to_number<std::int64_t>(scalar.text)) {
        parsed_.request.blocks.push_back(static_cast<std::uint64_t>(*negative));
      } else if (scalar.is_text) {
        parsed_.request.blocks.push_back(hash_of(scalar.text));
      } else {
        at_ = scalar.begin;
        return expected("a whole number from -2^63 to 2^64 - 1, or an id in quotes");
      }
    } while (accept(','));
    return expect(']', "',' or ']'");
  }

  static constexpr std::array<Field, 6> kFields = {{
      {.name = "timestamp", .read = &LineParser::read_timestamp},
      {.name = "input_length", .read = &LineParser::read_input_length},
      {.name = "output_length", .read = &LineParser::read_output_length},
      {.name = "hash_ids", .read = &LineParser::read_ids},
      {.name = "block_size", .read = &LineParser::read_block_size},
      {.name = "session_id", .read = &LineParser::read_session},
  }};

  // Values.

  struct Scalar {
    std::string_view text;  ///< Without its quotes; escapes are left as they are.
    bool is_text = false;   ///< It was in quotes.
    std::size_t begin = 0;
  };

  /// A number or a text.
  SetupResult<Scalar> scalar_value(std::string_view what) {
    skip_spaces();
    Scalar scalar;
    scalar.begin = at_;
    if (accept('"')) {
      LARDER_ASSIGN(scalar.text, rest_of_text("a text"));
      scalar.is_text = true;
      return scalar;
    }
    scalar.text = number_text();
    if (!to_number<double>(scalar.text)) {
      at_ = scalar.begin;
      return expected(what);
    }
    return scalar;
  }

  SetupStatus read_whole(std::uint64_t& value) {
    skip_spaces();
    const std::size_t begin = at_;
    const auto whole = to_number<std::uint64_t>(number_text());
    if (whole) {
      value = *whole;
      return {};
    }
    at_ = begin;
    return expected("a whole number from 0 to 2^64 - 1");
  }

  std::string_view number_text() {
    const std::size_t begin = at_;
    at_ = std::min(line_.find_first_not_of(kNumberCharacters, at_), line_.size());
    return line_.substr(begin, at_ - begin);
  }

  /// After an opening quote, up to the closing one.
  SetupResult<std::string_view> rest_of_text(std::string_view what) {
    const std::size_t begin = at_;
    for (std::size_t end = begin; end < line_.size(); ++end) {
      if (line_[end] == '\\') {
        ++end;
      } else if (line_[end] == '"') {
        at_ = end + 1;
        return line_.substr(begin, end - begin);
      }
    }
    return error(std::string{what} + " without its closing quote");
  }

  /// Any value, for a field that is not read.
  SetupStatus skip_value() {
    std::array<char, kDepthMax> closing{};  // Number of open lists and objects.
    std::size_t depth = 0;
    do {
      const bool is_list = accept('[');
      if (is_list || accept('{')) {
        if (depth == kDepthMax) return error("values nested deeper than 64");
        closing[depth++] = is_list ? ']' : '}';
        if (!accept(closing[depth - 1])) {
          if (!is_list) LARDER_TRY(skip_name());
          continue;
        }
        --depth;
      } else if (!accept_word("null") && !accept_word("true") && !accept_word("false")) {
        LARDER_TRY(scalar_value("a value"));
      }
      // A value has ended: the lists and objects that end with it, then the next value.
      while (depth > 0 && !accept(',')) {
        const char close = closing[depth - 1];
        LARDER_TRY(expect(close, close == ']' ? "',' or ']'" : "',' or '}'"));
        if (--depth == 0) return {};
      }
      if (depth > 0 && closing[depth - 1] == '}') LARDER_TRY(skip_name());
    } while (depth > 0);
    return {};
  }

  SetupStatus skip_name() {
    LARDER_TRY(expect('"', "a field name in quotes"));
    LARDER_TRY(rest_of_text("a field name"));
    return expect(':', "':'");
  }

  // Characters.

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
  bool accept_word(std::string_view word) {
    skip_spaces();
    if (!line_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  SetupStatus expect(char c, std::string_view name) {
    if (!accept(c)) return expected(name);
    return {};
  }

  SetupError error(const std::string& what) const {
    return invalid("column " + std::to_string(at_ + 1) + ": " + what);
  }
  SetupError expected(std::string_view what) const {
    return error("expected " + std::string{what} + ", found " + shown(line_.substr(at_)));
  }

  const std::string_view line_;
  const std::uint64_t timestamp_unit_ns_;
  std::size_t at_ = 0;
  bool has_ids_ = false;
  TraceLine parsed_;
};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

/// Whether a prompt of so many tokens has so many blocks, the last one counted or not if it is
/// short.
bool has_blocks(std::uint64_t tokens, std::uint64_t block_tokens, std::uint64_t blocks) {
  const std::uint64_t full = tokens / block_tokens;
  return blocks == full || (blocks == full + 1 && tokens % block_tokens != 0);
}

std::string wrong_block_count(const TraceRequest& request, std::uint64_t block_tokens) {
  const std::uint64_t needed =
      request.input_tokens / block_tokens + (request.input_tokens % block_tokens == 0 ? 0 : 1);
  std::string text = "input_length " + std::to_string(request.input_tokens) + " is " +
                     format_count(needed, "block") + " of " + std::to_string(block_tokens) +
                     " tokens, but hash_ids has " + std::to_string(request.blocks.size()) +
                     ": give the tokens of the trace's blocks with --block-tokens";
  for (std::uint64_t other = 1; other <= kBlockTokensMax; other *= 2) {
    if (has_blocks(request.input_tokens, other, request.blocks.size())) {
      return text + " (" + std::to_string(other) + " fits this line)";
    }
  }
  return text;
}

/// Gathers the lines of one file.
class TraceReader {
 public:
  explicit TraceReader(const TraceOptions& options) : options_(options) {}

  std::size_t requests() const { return trace_.requests.size(); }

  SetupStatus add(std::string_view text, std::uint64_t line_number) {
    auto parsed = parse_trace_line(text, options_.timestamp_unit_ns);
    if (!parsed) return at_line(line_number, parsed.error().text);
    LARDER_TRY(note_block_size(*parsed, line_number));
    LARDER_TRY(note_timestamp(*parsed, line_number));
    if (parsed->session) sessions_.insert(*parsed->session);
    for (const std::string_view name : parsed->ignored_fields) {
      if (ignored_fields_.size() < kDifferentFieldsMax) ignored_fields_.emplace(name);
    }
    trace_.requests.push_back(std::move(parsed->request));
    line_numbers_.push_back(line_number);
    return {};
  }

  /// Checks the rules for the whole file, and makes the trace. The block size may be on any line.
  SetupResult<Trace> finish() {
    if (requests() == 0) return invalid(options_.trace_path + ": no requests in it");
    trace_.block_tokens = options_.block_tokens;
    if (trace_.block_tokens == 0) trace_.block_tokens = block_size_.value_or(kDefaultBlockTokens);
    for (std::size_t i = 0; i < requests(); ++i) LARDER_TRY(finish_request(i));
    const auto too_short = std::erase_if(
        trace_.requests, [](const TraceRequest& request) { return request.blocks.empty(); });
    if (requests() == 0) return invalid(options_.trace_path + ": no request has a block");
    if (out_of_order_ > 0) sort_by_time();
    trace_.sessions = sessions_.size();
    write_notes(too_short);
    return std::move(trace_);
  }

 private:
  SetupError at_line(std::uint64_t line_number, const std::string& what) const {
    return invalid(options_.trace_path + ":" + std::to_string(line_number) + ": " + what);
  }

  SetupStatus note_block_size(const TraceLine& line, std::uint64_t line_number) {
    if (!line.block_size) return {};
    if (!block_size_) block_size_ = line.block_size;
    if (block_size_ == line.block_size) return {};
    return at_line(line_number, "block_size " + std::to_string(*line.block_size) +
                                    ", but earlier lines have " + std::to_string(*block_size_) +
                                    ": expected one block size in a trace");
  }

  SetupStatus note_timestamp(TraceLine& line, std::uint64_t line_number) {
    if (!line.has_timestamp) {
      ++without_timestamp_;
      line.request.timestamp_ns = last_timestamp_ns_;
      return {};
    }
    if (has_dates_.value_or(line.is_date) != line.is_date) {
      return at_line(line_number, std::string{"the timestamp is a "} +
                                      (line.is_date ? "date" : "number") +
                                      ", but those of earlier lines are " +
                                      (line.is_date ? "numbers" : "dates"));
    }
    has_dates_ = line.is_date;
    last_timestamp_ns_ = line.request.timestamp_ns;
    if (last_timestamp_ns_ < latest_ns_) ++out_of_order_;
    latest_ns_ = std::max(latest_ns_, last_timestamp_ns_);
    return {};
  }

  SetupStatus finish_request(std::size_t index) {
    TraceRequest& request = trace_.requests[index];
    request.block_tokens = trace_.block_tokens;
    if (request.input_tokens == 0) {
      ++without_input_length_;
      request.input_tokens = request.blocks.size() * std::uint64_t{request.block_tokens};
      return {};
    }
    if (has_blocks(request.input_tokens, request.block_tokens, request.blocks.size())) return {};
    return at_line(line_numbers_[index], wrong_block_count(request, request.block_tokens));
  }

  /// Those of equal timestamps in the order of the file.
  void sort_by_time() {
    std::vector<std::pair<std::uint64_t, std::size_t>> order;
    for (const TraceRequest& request : trace_.requests) {
      order.emplace_back(request.timestamp_ns, order.size());
    }
    std::ranges::sort(order);
    std::vector<TraceRequest> sorted;
    sorted.reserve(order.size());
    for (const auto& [time, index] : order) sorted.push_back(std::move(trace_.requests[index]));
    trace_.requests = std::move(sorted);
  }

  void write_notes(std::size_t too_short) {
    const auto note = [this](std::string text) { trace_.notes.push_back(std::move(text)); };
    if (!ignored_fields_.empty()) note(ignored_text());
    if (block_size_ && *block_size_ != trace_.block_tokens) {
      note("block_size " + std::to_string(*block_size_) + " of the trace was ignored for the " +
           std::to_string(trace_.block_tokens) + " tokens that were asked for");
    }
    if (out_of_order_ > 0) {
      note(format_count(out_of_order_, "request was", "requests were") +
           " earlier than one before: sorted by timestamp");
    }
    if (without_timestamp_ > 0) {
      note(format_count(without_timestamp_, "request has", "requests have") +
           " no timestamp and took that of the line before");
    }
    if (without_input_length_ > 0) {
      note(format_count(without_input_length_, "request has", "requests have") +
           " no input_length and counted as whole blocks");
    }
    if (too_short > 0) {
      note(format_count(too_short, "request has", "requests have") + " no block and was left out");
    }
  }

  std::string ignored_text() const {
    std::string names;
    std::size_t named = 0;
    for (const std::string& name : ignored_fields_) {
      if (named++ == kNamedFieldsMax) break;
      names += (names.empty() ? "" : ", ") + printable(name);
    }
    if (ignored_fields_.size() > kNamedFieldsMax) {
      names += " and " + std::to_string(ignored_fields_.size() - kNamedFieldsMax) + " more";
    }
    return (ignored_fields_.size() == 1 ? "field ignored: " : "fields ignored: ") + names;
  }

  const TraceOptions& options_;
  Trace trace_;
  std::vector<std::uint64_t> line_numbers_;  ///< By request.
  std::unordered_set<std::uint64_t> sessions_;
  std::set<std::string> ignored_fields_;
  std::optional<std::uint32_t> block_size_;
  std::optional<bool> has_dates_;
  std::uint64_t last_timestamp_ns_ = 0;
  std::uint64_t latest_ns_ = 0;
  std::uint64_t out_of_order_ = 0;
  std::uint64_t without_timestamp_ = 0;
  std::uint64_t without_input_length_ = 0;
};

}  // namespace

SetupResult<std::uint64_t> parse_timestamp_unit(std::string_view text) {
  if (text == "s") return std::uint64_t{1'000'000'000};
  if (text == "ms") return std::uint64_t{1'000'000};
  if (text == "us") return std::uint64_t{1000};
  if (text == "ns") return std::uint64_t{1};
  return invalid("timestamp unit '" + printable(text) + "': expected s, ms, us or ns");
}

SetupResult<std::uint32_t> parse_block_tokens(std::string_view text) {
  const auto tokens = to_number<std::uint32_t>(text);
  if (tokens && *tokens > 0 && *tokens <= kBlockTokensMax) return *tokens;
  return invalid("'" + printable(text) + "': expected the tokens of a block, 1 to " +
                 std::to_string(kBlockTokensMax));
}

SetupResult<TraceLine> parse_trace_line(std::string_view line, std::uint64_t timestamp_unit_ns) {
  return LineParser{line, timestamp_unit_ns}.parse();
}

SetupResult<Trace> read_trace(const TraceOptions& options, const std::atomic<bool>& stop) {
  LARDER_ASSIGN(const std::unique_ptr<LineSource> source,
                LineSource::open(options.trace_path, stop));
  TraceReader reader{options};
  std::uint64_t line_number = 0;
  while (reader.requests() < options.requests_max) {
    LARDER_ASSIGN(const std::optional<std::string_view> next, source->next());
    if (!next) break;
    std::string_view line = *next;
    if (++line_number == 1 && line.starts_with(kByteOrderMark)) {
      line.remove_prefix(kByteOrderMark.size());
    }
    if (!is_blank(line)) LARDER_TRY(reader.add(line, line_number));
  }
  return reader.finish();
}

}  // namespace larder::tools
