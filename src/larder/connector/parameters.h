#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/connector/spec.h"

namespace larder {

/// How a parameter's text is read.
enum class ParameterKind : std::uint8_t {
  kText = 1,
  kPath,      ///< A text whose leading ~ or ~USER means a home directory, as in a shell.
  kInteger,   ///< Decimal.
  kBytes,     ///< "64MiB", "200GiB", "4096".
  kDuration,  ///< "250ms", "5s", "1h"; kept in nanoseconds.
  kFraction,  ///< 0..1, "0.25" or "25%".
  kBool,      ///< yes/no, true/false, on/off, 1/0.
  kChoice,    ///< One of `choices`.
  kSpec,      ///< Another connector: percent-encoded in a URL, an object in JSON.
};

/// One row of a connector type's table, from which parsing, `larder connectors` and
/// docs/connectors.md come.
struct Parameter {
  std::string_view name = {};
  ParameterKind kind = ParameterKind::kText;
  std::string_view default_text = {};  ///< As a user would write it; empty: required or "not set".
  std::string_view minimum = {};       ///< A text of the same kind; empty: none.
  std::string_view maximum = {};
  std::string_view choices = {};  ///< kChoice: "a|b|c".
  std::string_view help = {};     ///< A sentence: what it does and when to change it.
  bool is_required = false;
  bool is_secret = false;         ///< Never shown by report() or an error.
  std::string_view example = {};  ///< For the error; empty: an example of its kind.
};

/// A value from outside as a person may see it: printable, cut after `bytes_max` bytes, and
/// "(hidden)" if it is secret.
std::string shown_value(const Parameter& row, std::string_view value, std::size_t bytes_max = 64);

/// Expands a leading ~ or ~USER of a path to the home directory, as a shell does. An error where
/// there is none.
SetupResult<std::string> expand_home(std::string_view path);

/// A type's parameters as read from a spec: every value is within its bounds, defaults filled in.
/// The getters abort when the name is not in the table or has another kind: that is a bug in the
/// connector, not in the spec.
class Parameters {
 public:
  /// Reads `spec` by `table`. An unknown parameter, a value that does not parse or is out of
  /// bounds, and a missing required one are errors that name type, parameter, value, and what is
  /// possible (nearest name first).
  static SetupResult<Parameters> parse(const Spec& spec, std::span<const Parameter> table);

  bool has(std::string_view name) const;  ///< Set in the spec or by a default that is not empty.
  const std::string& text(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  std::uint64_t bytes(std::string_view name) const;
  std::uint64_t duration_ns(std::string_view name) const;
  double fraction(std::string_view name) const;
  bool flag(std::string_view name) const;
  const Spec& spec(std::string_view name) const;

 private:
  struct Value {
    ParameterKind kind = ParameterKind::kText;
    bool is_set = false;
    std::string text;
    std::uint64_t number = 0;  ///< kBytes, kDuration (ns), kBool, kInteger (two's complement).
    double fraction = 0;
    std::optional<Spec> spec;
  };
  /// Reads and checks one value; the error's text is only the reason.
  static SetupResult<Value> read(const Parameter& row, std::string_view text);
  static SetupStatus check_bounds(const Parameter& row, const Value& value);
  static SetupResult<Value> read_unbounded(const Parameter& row, std::string_view text);
  const Value& value(std::string_view name, ParameterKind kind) const;

  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace larder
