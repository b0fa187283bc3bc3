#include "larder/connector/spec.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace larder {
namespace {

constexpr std::string_view kHexDigits = "0123456789ABCDEF";
constexpr std::string_view kNeverEncoded = "-._~/:@,[]";

using Json = nlohmann::ordered_json;

constexpr std::size_t kSpecBytesMax = std::size_t{64} << 10;
constexpr std::size_t kSpecDepthMax = 8;
constexpr std::string_view kTypeKey = "type";

// Texts never repeat a value: only the type's table knows which values are secret.
SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, "spec: " + std::move(text)};
}

SetupError beyond_limit(std::string text) {
  return SetupError{ErrorCode::kResourceExhausted, "spec: " + std::move(text)};
}

SetupError too_deep() {
  return beyond_limit("specs are nested more than " + std::to_string(kSpecDepthMax) + " deep");
}

std::string at(std::size_t index) {
  return "character " + std::to_string(index + 1) + ": ";
}

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alphanumeric(char c) {
  return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c);
}

bool is_type_name(std::string_view name) {
  return !name.empty() && is_lower(name.front()) && std::ranges::all_of(name, [](char c) {
    return is_lower(c) || is_digit(c) || c == '_' || c == '-';
  });
}

bool is_parameter_name(std::string_view name) {
  return !name.empty() && name != kTypeKey && std::ranges::all_of(name, [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '-' || c == '.';
  });
}

/// Whether both spellings can hold the value: it is UTF-8 (all that JSON allows) without NUL (which
/// ends paths and C strings).
bool is_legal_value(std::string_view value) {
  if (value.find('\0') != std::string_view::npos) return false;
  try {
    static_cast<void>(Json(value).dump());
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

constexpr std::string_view kLegalValue = "a value must be UTF-8 text without NUL";

/// The name under which a repeated nested spec is stored.
std::string next_name(const Spec& spec, std::string_view name) {
  std::string next{name};
  for (std::size_t number = 2; spec.parameters().contains(next); ++number) {
    next = std::string{name} + "." + std::to_string(number);
  }
  return next;
}

/// Only a type's table knows which values are specs; any text of the form "type:..." may be one.
bool may_be_given_again(std::string_view value) {
  const std::size_t colon = value.find(':');
  return value.starts_with('{') ||
         (colon != std::string_view::npos && is_type_name(value.substr(0, colon)));
}

// ---- URL ----------------------------------------------------------------------------------------

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_encoded(std::string& url, std::string_view value) {
  for (const char c : value) {
    if (is_alphanumeric(c) || kNeverEncoded.find(c) != std::string_view::npos) {
      url += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      url += '%';
      url += kHexDigits[byte >> 4U];
      url += kHexDigits[byte & 15U];
    }
  }
}

/// Decodes text[begin, end), which is one location or one value.
SetupResult<std::string> decode(std::string_view text, std::size_t begin, std::size_t end) {
  std::string value;
  value.reserve(end - begin);
  for (std::size_t i = begin; i < end; ++i) {
    const char c = text[i];
    if (c == '?' || c == '#') {
      return invalid(at(i) + "'" + c + "' must be written as " + (c == '?' ? "%3F" : "%23") +
                     " here; a nested spec is percent-encoded as a whole");
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      return invalid(at(i) + "a control character must be percent-encoded");
    }
    if (c != '%') {
      value += c;
      continue;
    }
    const int high = i + 2 < end ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < end ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return invalid(at(i) + "expected two hexadecimal digits after '%'; write %25 for '%'");
    }
    value += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (!is_legal_value(value)) return invalid(at(begin) + std::string{kLegalValue});
  return value;
}

/// Reads `name=value` from text[begin, end) into `spec`.
SetupStatus read_parameter(std::string_view text, std::size_t begin, std::size_t end, Spec& spec) {
  const std::size_t equals = std::min(text.find('=', begin), end);
  const std::string_view name = text.substr(begin, equals - begin);
  if (!is_parameter_name(name)) {
    return invalid(at(begin) + "expected name=value; a name has letters, digits, '_', '-' and '.'" +
                   (name == kTypeKey ? ", and is not 'type'" : ""));
  }
  if (equals == end) return invalid(at(end) + "expected '=' after '" + std::string{name} + "'");
  LARDER_ASSIGN(std::string value, decode(text, equals + 1, end));
  if (spec.parameters().contains(name) && !may_be_given_again(value)) {
    return invalid(at(begin) + "parameter '" + std::string{name} + "' is given twice");
  }
  spec.set(next_name(spec, name), std::move(value));
  return {};
}

/// A location, text[begin, end), that a parameter follows without its '?' would be another place
/// than the one that was meant, without the parameter.
SetupStatus check_location(std::string_view text, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; (i = text.find('&', i)) < end; ++i) {
    const std::string_view rest = text.substr(i + 1, end - i - 1);
    const std::string_view name = rest.substr(0, rest.find('='));
    if (name.size() == rest.size() || !is_parameter_name(name)) continue;
    return invalid(at(i) + "'?' stands before the first parameter, and '&' before the others: " +
                   "write ?" + std::string{name} + "=...; in a path, '&' is written as %26");
  }
  return {};
}

SetupResult<Spec> parse_url(std::string_view text) {
  const std::size_t colon = text.find_first_of(":?/#");
  if (text.starts_with('/') || text.starts_with('.') || text.starts_with('~')) {
    return invalid(
        "that is a path, and a type must stand before it: log:PATH for a store of larder's own (a "
        "new one as log:PATH?capacity=200GiB), or fs:PATH for LMCache's files");
  }
  if (colon == std::string_view::npos || text[colon] != ':') {
    return invalid(
        "expected a connector type and ':' at the beginning, for example "
        "log:/data/kv?capacity=200GiB or memory:");
  }
  Spec spec;
  if (!is_type_name(text.substr(0, colon))) {
    return invalid(at(0) + "a connector type has lower-case letters, digits, '_' and '-'");
  }
  spec.set_type(std::string{text.substr(0, colon)});

  const std::size_t question = std::min(text.find('?', colon), text.size());
  LARDER_TRY(check_location(text, colon + 1, question));
  LARDER_ASSIGN(std::string location, decode(text, colon + 1, question));
  if (!location.empty()) spec.set("", std::move(location));

  for (std::size_t begin = question + 1; begin <= text.size();) {
    const std::size_t end = std::min(text.find('&', begin), text.size());
    LARDER_TRY(read_parameter(text, begin, end, spec));
    begin = end + 1;
  }
  return spec;
}

// ---- JSON ---------------------------------------------------------------------------------------

/// Builds a Spec from the parser's events, so that duplicates, depth and the text of numbers are
/// seen before anything is thrown away.
class JsonReader final : public Json::json_sax_t {
 public:
  bool null() override { return fail("null is not a value; leave the parameter out"); }
  bool boolean(bool value) override { return add_value(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return add_value(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    return add_value(std::to_string(value));
  }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    return add_value(text);
  }
  bool string(string_t& value) override {
    if (frames_.back().key != kTypeKey) return add_value(value);
    if (!is_type_name(value)) {
      return fail("a connector type has lower-case letters, digits, '_' and '-'");
    }
    frames_.back().spec.set_type(value);
    return true;
  }
  bool binary(binary_t& /*value*/) override { return fail("binary is not a value"); }

  bool start_object(std::size_t /*elements*/) override {
    if (!frames_.empty() && frames_.back().key == kTypeKey) return fail("expected a text");
    if (frames_.size() == kSpecDepthMax) {
      error_ = too_deep();
      return false;
    }
    frames_.emplace_back();
    return true;
  }
  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    frame.key = name;
    if (name != kTypeKey && !name.empty() && !is_parameter_name(name)) {
      frame.key = "?";
      return fail("a name has letters, digits, '_', '-' and '.'");
    }
    const bool is_twice =
        name == kTypeKey ? !frame.spec.type().empty() : frame.spec.parameters().contains(name);
    return is_twice ? fail("is given twice") : true;
  }
  bool end_object() override {
    Spec spec = std::move(frames_.back().spec);
    frames_.pop_back();
    if (spec.type().empty()) {
      return fail("expected \"type\": the connector type, for example {\"type\": \"memory\"}");
    }
    if (frames_.empty()) {
      result_ = std::move(spec);
      return true;
    }
    if (frames_.back().list) {
      frames_.back().specs.push_back(spec.to_url());
      return true;
    }
    return add_value(spec.to_url());
  }
  /// A list of numbers or texts becomes their text with commas in between, as in a URL; a list of
  /// specs becomes the parameter given several times.
  bool start_array(std::size_t /*elements*/) override {
    if (frames_.empty() || frames_.back().key == kTypeKey || frames_.back().list) {
      return fail("a list can only be a value, and have numbers and texts, or specs");
    }
    frames_.back().list.emplace();
    return true;
  }
  bool end_array() override {
    Frame& frame = frames_.back();
    if (!frame.specs.empty() && !frame.list->empty()) {
      return fail("a list has either specs or numbers and texts");
    }
    if (!frame.specs.empty()) {
      for (std::string& spec : frame.specs) {
        frame.spec.set(next_name(frame.spec, frame.key), std::move(spec));
      }
      frame.specs.clear();
      frame.list.reset();
      return true;
    }
    std::string joined;
    for (const std::string& value : *frames_.back().list) {
      joined += (joined.empty() ? "" : ",") + value;
    }
    frames_.back().list.reset();
    return add_value(std::move(joined));
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& exception) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 9: ... - invalid literal;
    // last read: '...'". The tail may hold a secret.
    std::string_view text = exception.what();
    text = text.substr(text.find(']') == std::string_view::npos ? 0 : text.find(']') + 2);
    text = text.substr(0, std::min(text.find("; last read"), text.find(" - ")));
    error_ = invalid("not valid JSON: " + std::string{text});
    return false;
  }

  SetupResult<Spec> take_result(bool is_ok) {
    if (!is_ok) return std::move(error_);
    return std::move(result_);
  }

 private:
  struct Frame {
    Spec spec;
    std::string key;
    std::optional<std::vector<std::string>> list;  ///< The list that is being read.
    std::vector<std::string> specs;                ///< Of it.
  };

  bool fail(std::string_view what) {
    std::string path;
    for (const Frame& frame : frames_) path += (path.empty() ? "" : ".") + frame.key;
    error_ = invalid((path.empty() ? "" : "'" + path + "': ") + std::string{what});
    return false;
  }
  bool add_value(std::string value) {
    if (frames_.empty()) return fail("expected an object");
    Frame& frame = frames_.back();
    if (frame.key == kTypeKey) return fail("expected a text");
    if (frame.list) {
      if (value.empty() || value.find(',') != std::string::npos) {
        return fail("what a list has must not be empty and have no comma");
      }
      frame.list->push_back(std::move(value));
      return true;
    }
    if (!is_legal_value(value)) return fail(kLegalValue);
    // An empty location is none, as in a URL.
    if (!frame.key.empty() || !value.empty()) frame.spec.set(frame.key, std::move(value));
    return true;
  }

  std::vector<Frame> frames_;
  Spec result_;
  SetupError error_;
};

SetupResult<Spec> parse_json(std::string_view text) {
  JsonReader reader;
  const bool is_ok = Json::sax_parse(text, &reader);
  return reader.take_result(is_ok);
}

// ---- Both ---------------------------------------------------------------------------------------

bool looks_like_spec(std::string_view value) {
  return value.starts_with('{') || is_type_name(value.substr(0, value.find(':')));
}

/// Which values are nested specs only the type's table knows, so any value that reads as a spec
/// counts. Opening then never recurses deeper than kSpecDepthMax.
SetupResult<Spec> parse_at_depth(std::string_view text, std::size_t depth) {
  LARDER_ASSIGN(Spec spec, text.starts_with('{') ? parse_json(text) : parse_url(text));
  if (depth > kSpecDepthMax) return too_deep();
  for (const auto& [name, value] : spec.parameters()) {
    if (!looks_like_spec(value)) continue;
    const auto nested = parse_at_depth(value, depth + 1);
    if (!nested && nested.error().code == ErrorCode::kResourceExhausted) return nested.error();
  }
  return spec;
}

}  // namespace

SetupResult<Spec> Spec::parse(std::string_view text) {
  const SetupError too_long = beyond_limit("longer than 64 KiB");
  if (text.size() > kSpecBytesMax) return too_long;
  LARDER_ASSIGN(Spec spec, parse_at_depth(text, 1));
  // The canonical spelling can be longer than the text that was read, and must be readable too.
  if (spec.to_url().size() > kSpecBytesMax || spec.to_json().size() > kSpecBytesMax) {
    return too_long;
  }
  return spec;
}

std::string Spec::to_url() const {
  std::string url = type_ + ':';
  char separator = '?';
  for (const auto& [name, value] : parameters_) {
    if (name.empty()) {  // Sorts first.
      append_encoded(url, value);
      continue;
    }
    url += separator;
    url += name;
    url += '=';
    append_encoded(url, value);
    separator = '&';
  }
  return url;
}

std::string Spec::to_json() const {
  Json object = Json::object();
  object[std::string{kTypeKey}] = type_;
  for (const auto& [name, value] : parameters_) object[name] = value;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

SetupStatus Spec::rename_location(std::string_view name) {
  const auto location = parameters_.find("");
  if (location == parameters_.end()) return {};
  if (name.empty()) {
    return SetupError{ErrorCode::kInvalidArgument,
                      type_ + ": takes no location; write " + type_ + ": or " + type_ +
                          ":?name=value without anything between ':' and '?'"};
  }
  if (parameters_.contains(name)) {
    return SetupError{ErrorCode::kInvalidArgument, type_ + ": the location after '" + type_ +
                                                       ":' is the parameter '" + std::string{name} +
                                                       "', and that is given too; leave one out"};
  }
  auto node = parameters_.extract(location);
  node.key() = std::string{name};
  parameters_.insert(std::move(node));
  return {};
}

}  // namespace larder
