#include "larder/tools/connectors_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "larder/base/nearest_name.h"
#include "larder/connector/describe.h"

namespace larder::tools {
namespace {

std::string_view kind_name(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kText:
      return "text";
    case ParameterKind::kPath:
      return "path";
    case ParameterKind::kInteger:
      return "integer";
    case ParameterKind::kBytes:
      return "bytes";
    case ParameterKind::kDuration:
      return "duration";
    case ParameterKind::kFraction:
      return "fraction";
    case ParameterKind::kBool:
      return "bool";
    case ParameterKind::kChoice:
      return "choice";
    case ParameterKind::kSpec:
      return "spec";
  }
  return "unknown";
}

nlohmann::json type_json(const ConnectorType& type) {
  nlohmann::json parameters = nlohmann::json::array();
  for (const Parameter& parameter : type.parameters) {
    parameters.push_back({{"name", parameter.name},
                          {"kind", kind_name(parameter.kind)},
                          {"default", parameter.default_text},
                          {"minimum", parameter.minimum},
                          {"maximum", parameter.maximum},
                          {"choices", parameter.choices},
                          {"help", parameter.help},
                          {"required", parameter.is_required},
                          {"secret", parameter.is_secret}});
  }
  return {{"name", type.name},
          {"summary", type.summary},
          {"example", type.example},
          {"location_parameter", type.location_parameter},
          {"parameters", std::move(parameters)}};
}

SetupError unknown_type(const Registry& registry, const std::string& type) {
  std::vector<std::string_view> names;
  std::string list;
  for (const ConnectorType* const known : registry.types()) {
    names.push_back(known->name);
    list += (list.empty() ? "" : ", ") + std::string{known->name};
  }
  const std::string_view nearest = nearest_name(type, names);
  return SetupError{
      ErrorCode::kInvalidArgument,
      fmt::format("there is no connector type \"{}\"{}; there are: {}", type,
                  nearest.empty() ? "" : fmt::format(", did you mean \"{}\"?", nearest), list)};
}

}  // namespace

SetupResult<std::string> list_connectors(const Registry& registry, const std::string& type,
                                         ListFormat format) {
  if (registry.refusal()) return *registry.refusal();
  std::vector<const ConnectorType*> types;
  if (type.empty()) {
    types.assign(registry.types().begin(), registry.types().end());
  } else {
    const ConnectorType* const found = registry.find(type);
    if (found == nullptr) return unknown_type(registry, type);
    types.push_back(found);
  }
  std::string text;
  switch (format) {
    case ListFormat::kMarkdown:
      return describe_markdown(types);
    case ListFormat::kJson: {
      nlohmann::json json = {{"ok", true}, {"types", nlohmann::json::array()}};
      for (const ConnectorType* const one : types) json["types"].push_back(type_json(*one));
      return json.dump(2, ' ', true) + "\n";
    }
    case ListFormat::kText:
      break;
  }
  if (!type.empty()) return describe(*types.front());
  for (const ConnectorType* const one : types) {
    text += fmt::format("{:<10} {}\n{:<10} {}\n", one->name, one->summary, "", one->example);
  }
  return text + "`larder connectors TYPE` shows a type's parameters.\n";
}

}  // namespace larder::tools
