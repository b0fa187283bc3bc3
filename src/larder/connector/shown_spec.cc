#include "larder/connector/shown_spec.h"

#include <algorithm>

#include "larder/connector/parameters.h"
#include "larder/connector/spec.h"

namespace larder {
namespace {

constexpr std::size_t kShownBytesMax = 1024;
constexpr std::string_view kHidden = "(hidden)";

std::string shown(const Spec& given, const Registry& registry);

/// In an address the part before '@' names the user and the password, the rest the place.
std::string shown_location(const Parameter& row, std::string_view value) {
  const std::size_t at = row.is_secret ? value.rfind('@') : std::string_view::npos;
  const bool has_user = at != std::string_view::npos;
  const std::string_view place = has_user ? value.substr(at) : value;
  const std::string slashes = has_user && value.starts_with("//") ? "//" : "";
  return slashes + std::string{has_user ? kHidden : ""} +
         shown_value(Parameter{}, place, kShownBytesMax);
}

std::string shown(const Parameter& row, std::string_view value, const Registry& registry) {
  if (row.kind != ParameterKind::kSpec) return shown_value(row, value, kShownBytesMax);
  return shown_spec(value, registry);
}

std::string shown(const Spec& given, const Registry& registry) {
  const ConnectorType* const type = registry.find(given.type());
  Spec spec = given;
  // A location that is given twice is shown in both spellings.
  const bool is_renamed = type != nullptr && spec.rename_location(type->location_parameter);
  std::string text = spec.type() + ':';
  std::string parameters;
  for (const auto& [name, value] : spec.parameters()) {
    const Parameter* row = nullptr;
    if (type != nullptr) {
      const auto found = std::ranges::find(type->parameters, name, &Parameter::name);
      if (found != type->parameters.end()) row = &*found;
    }
    const bool is_location = name.empty() || (is_renamed && name == type->location_parameter);
    if (is_location) {
      text += row != nullptr ? shown_location(*row, value) : kHidden;
      continue;
    }
    parameters += (parameters.empty() ? '?' : '&') + shown_value(Parameter{}, name) + '=';
    parameters += row != nullptr ? shown(*row, value, registry) : kHidden;
  }
  return text + parameters;
}

}  // namespace

std::string shown_spec(std::string_view text, const Registry& registry) {
  const auto spec = Spec::parse(text);
  return spec ? shown(*spec, registry) : std::string{kHidden};
}

}  // namespace larder
