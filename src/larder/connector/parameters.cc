#include "larder/connector/parameters.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/base/size_text.h"

namespace larder {
namespace {

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

std::string joined(std::string_view choices) {
  std::string text;
  for (const char c : choices) text += c == '|' ? std::string{", "} : std::string{c};
  return text;
}

bool is_choice(std::string_view choices, std::string_view text) {
  for (std::size_t begin = 0; begin <= choices.size();) {
    const std::size_t end = std::min(choices.find('|', begin), choices.size());
    if (choices.substr(begin, end - begin) == text) return !text.empty();
    begin = end + 1;
  }
  return false;
}

std::string_view example_of(const Parameter& row) {
  if (!row.example.empty()) return row.example;
  switch (row.kind) {
    case ParameterKind::kText:
      return "TEXT";
    case ParameterKind::kPath:
      return "/PATH";
    case ParameterKind::kInteger:
      return "16";
    case ParameterKind::kBytes:
      return "200GiB";
    case ParameterKind::kDuration:
      return "5s";
    case ParameterKind::kFraction:
      return "0.25";
    case ParameterKind::kBool:
      return "yes";
    case ParameterKind::kChoice:
      return row.choices.substr(0, row.choices.find('|'));
    case ParameterKind::kSpec:
      return "memory:";
  }
  return "";
}

/// Says that `text` is not of the kind, or does not fit into 64 bits.
SetupError not_one(std::string_view kind, std::string_view text, std::string_view examples) {
  constexpr std::size_t kDigitsMax = 20;
  const auto digits = std::ranges::find_if_not(text, [](char c) { return c >= '0' && c <= '9'; });
  const bool is_too_large = digits - text.begin() > std::ptrdiff_t{kDigitsMax};
  return invalid((is_too_large ? "too large" : "not " + std::string{kind}) +
                 "; write for example " + std::string{examples});
}

SetupError unknown_parameter(const Spec& spec, std::string_view name,
                             std::span<const Parameter> table) {
  std::vector<std::string_view> names;
  for (const Parameter& row : table) names.push_back(row.name);
  std::ranges::sort(names);
  std::string text = spec.type() + ": unknown parameter '";
  // The name is shown as if it were an open value: bounded and printable.
  text += shown_value(Parameter{}, name) + "'";
  if (const std::string_view nearest = nearest_name(name, names); !nearest.empty()) {
    text += ": did you mean '" + std::string{nearest} + "'?";
  } else {
    text += '.';
  }
  if (names.empty()) return invalid(text + " This type has no parameters");
  text += " Known parameters: ";
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::string{names[i]};
  }
  return invalid(std::move(text));
}

}  // namespace

std::string shown_value(const Parameter& row, std::string_view value, std::size_t bytes_max) {
  if (row.is_secret) return "(hidden)";
  if (value.size() <= bytes_max) return printable(value);
  std::size_t end = bytes_max;  // Do not cut a UTF-8 character in two.
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0U) == 0x80U) --end;
  return printable(value.substr(0, end)) + "...";
}

// A shell does this only at the start of a word, and JSON goes through none.
SetupResult<std::string> expand_home(std::string_view path) {
  if (!path.starts_with('~')) return std::string{path};
  const std::size_t end = std::min(path.find('/'), path.size());
  const std::string user{path.substr(1, end - 1)};
  const std::string rest{path.substr(end)};
  const char* const home = std::getenv("HOME");
  if (user.empty() && home != nullptr && *home != '\0') return home + rest;
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(std::size_t{64} << 10);
  const int failed = user.empty()
                         ? ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found)
                         : ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed == 0 && found != nullptr && *found->pw_dir != '\0') return found->pw_dir + rest;
  return invalid((user.empty()
                      ? std::string{"this user has no home directory"}
                      : "there is no user '" + printable(user) + "' with a home directory") +
                 "; write the whole path, or ./~... for a name that begins so");
}

SetupResult<Parameters::Value> Parameters::read_unbounded(const Parameter& row,
                                                          std::string_view text) {
  Value value;
  value.kind = row.kind;
  value.is_set = true;
  value.text = std::string{text};
  switch (row.kind) {
    case ParameterKind::kText:
      if (row.is_required && text.empty()) return invalid("must not be empty");
      break;
    case ParameterKind::kPath: {
      if (row.is_required && text.empty()) return invalid("must not be empty");
      LARDER_ASSIGN(value.text, expand_home(text));
      break;
    }
    case ParameterKind::kInteger: {
      const auto number = parse_integer(text);
      if (!number) return not_one("a whole number", text, "16");
      value.number = static_cast<std::uint64_t>(*number);
      break;
    }
    case ParameterKind::kBytes: {
      const auto bytes = parse_bytes(text);
      if (!bytes) return not_one("a size", text, "64MiB or 200GiB");
      value.number = *bytes;
      break;
    }
    case ParameterKind::kDuration: {
      const auto duration_ns = parse_duration_ns(text);
      if (!duration_ns) return not_one("a duration", text, "250ms, 5s or 1h");
      value.number = *duration_ns;
      break;
    }
    case ParameterKind::kFraction: {
      const auto fraction = parse_fraction(text);
      if (!fraction) return invalid("not a fraction; write for example 0.25 or 25%");
      value.fraction = *fraction;
      break;
    }
    case ParameterKind::kBool: {
      const auto flag = parse_bool(text);
      if (!flag) return invalid("neither yes nor no");
      value.number = *flag ? 1 : 0;
      break;
    }
    case ParameterKind::kChoice:
      if (!is_choice(row.choices, text)) return invalid("must be one of " + joined(row.choices));
      break;
    case ParameterKind::kSpec: {
      auto spec = Spec::parse(text);
      if (!spec) return spec.error();
      value.spec = std::move(*spec);
      break;
    }
  }
  return value;
}

SetupStatus Parameters::check_bounds(const Parameter& row, const Value& value) {
  const auto is_less = [&row](const Value& left, const Value& right) {
    if (row.kind == ParameterKind::kFraction) return left.fraction < right.fraction;
    if (row.kind == ParameterKind::kInteger) {
      return static_cast<std::int64_t>(left.number) < static_cast<std::int64_t>(right.number);
    }
    return left.number < right.number;
  };
  bool is_within = true;
  if (!row.minimum.empty()) {
    LARDER_ASSIGN(const Value minimum, read_unbounded(row, row.minimum));
    is_within = !is_less(value, minimum);
  }
  if (!row.maximum.empty()) {
    LARDER_ASSIGN(const Value maximum, read_unbounded(row, row.maximum));
    is_within = is_within && !is_less(maximum, value);
  }
  if (is_within) return {};
  const std::string minimum{row.minimum};
  const std::string maximum{row.maximum};
  if (maximum.empty()) return invalid("must be at least " + minimum);
  if (minimum.empty()) return invalid("must be at most " + maximum);
  return invalid("must be " + minimum + " to " + maximum);
}

SetupResult<Parameters::Value> Parameters::read(const Parameter& row, std::string_view text) {
  LARDER_ASSIGN(Value value, read_unbounded(row, text));
  LARDER_TRY(check_bounds(row, value));
  return value;
}

SetupResult<Parameters> Parameters::parse(const Spec& spec, std::span<const Parameter> table) {
  for (const auto& [name, text] : spec.parameters()) {
    const bool is_known =
        std::ranges::any_of(table, [&](const Parameter& row) { return row.name == name; });
    if (is_known) continue;
    if (name.empty()) return Spec{spec}.rename_location("").error();
    return unknown_parameter(spec, name, table);
  }
  Parameters parameters;
  for (const Parameter& row : table) {
    const std::string name{row.name};
    const auto given = spec.parameters().find(name);
    if (given == spec.parameters().end() && row.is_required) {
      std::string error = spec.type();
      error += ": '" + name + "' is missing; write for example ";
      error += name + "=";
      error += example_of(row);
      return invalid(std::move(error));
    }
    if (given == spec.parameters().end() && row.default_text.empty()) {
      parameters.values_[name].kind = row.kind;
      continue;
    }
    const std::string_view text =
        given == spec.parameters().end() ? row.default_text : std::string_view{given->second};
    auto value = read(row, text);
    if (!value) {
      std::string where = spec.type();
      where += ": " + name;
      // A nested spec may hold secrets that only its own type knows of.
      if (row.kind != ParameterKind::kSpec) where += "=" + shown_value(row, text);
      return SetupError{value.error().code, where + ": " + value.error().text};
    }
    parameters.values_[name] = std::move(*value);
  }
  return parameters;
}

bool Parameters::has(std::string_view name) const {
  const auto found = values_.find(name);
  LARDER_CHECK(found != values_.end());
  return found->second.is_set;
}

const Parameters::Value& Parameters::value(std::string_view name, ParameterKind kind) const {
  const auto found = values_.find(name);
  LARDER_CHECK(found != values_.end());
  LARDER_CHECK(found->second.kind == kind);
  return found->second;
}

const std::string& Parameters::text(std::string_view name) const {
  const auto found = values_.find(name);
  LARDER_CHECK(found != values_.end());
  LARDER_CHECK(found->second.kind == ParameterKind::kText ||
               found->second.kind == ParameterKind::kPath ||
               found->second.kind == ParameterKind::kChoice);
  return found->second.text;
}

std::int64_t Parameters::integer(std::string_view name) const {
  return static_cast<std::int64_t>(value(name, ParameterKind::kInteger).number);
}

std::uint64_t Parameters::bytes(std::string_view name) const {
  return value(name, ParameterKind::kBytes).number;
}

std::uint64_t Parameters::duration_ns(std::string_view name) const {
  return value(name, ParameterKind::kDuration).number;
}

double Parameters::fraction(std::string_view name) const {
  return value(name, ParameterKind::kFraction).fraction;
}

bool Parameters::flag(std::string_view name) const {
  return value(name, ParameterKind::kBool).number != 0;
}

const Spec& Parameters::spec(std::string_view name) const {
  const Value& found = value(name, ParameterKind::kSpec);
  LARDER_CHECK(found.spec.has_value());
  return *found.spec;
}

}  // namespace larder
