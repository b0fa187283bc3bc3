#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder {

/// How a connector is named and configured: `log:/data/kv?capacity=200GiB`, or the same as JSON
/// `{"type": "log", "path": "/data/kv", "capacity": "200GiB"}`. One value, two spellings.
///
/// The part of a URL between `type:` and `?` is the location. It is a parameter like the others;
/// which one, the registry knows (`log`: path). Before that it has the name "".
/// A nested spec (fault, tiered) is percent-encoded in a URL and an object in JSON. Where a type
/// takes several, the parameter is repeated, or is a list of objects: the second one becomes the
/// parameter `name.2`, the third one `name.3`.
class Spec {
 public:
  /// Reads either spelling: text that starts with `{` is JSON. JSON numbers and booleans become
  /// their text. Errors name the position and what was expected.
  static SetupResult<Spec> parse(std::string_view text);

  /// Canonical spellings; parse() of either gives an equal Spec.
  std::string to_url() const;
  std::string to_json() const;

  const std::string& type() const noexcept { return type_; }
  const std::map<std::string, std::string, std::less<>>& parameters() const noexcept {
    return parameters_;
  }
  /// Nested specs are kept as their canonical URL text.
  void set(std::string name, std::string value) { parameters_[std::move(name)] = std::move(value); }
  void set_type(std::string type) { type_ = std::move(type); }
  /// Moves the location (parameter "") to `name`. An error when both were given.
  SetupStatus rename_location(std::string_view name);

  friend bool operator==(const Spec&, const Spec&) = default;

 private:
  std::string type_;
  std::map<std::string, std::string, std::less<>> parameters_;
};

}  // namespace larder
