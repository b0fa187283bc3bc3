#include "larder/connector/describe.h"

#include <algorithm>
#include <vector>

namespace larder {
namespace {

std::string replaced(std::string_view text, char from, std::string_view to) {
  std::string result;
  for (const char c : text) result += c == from ? std::string{to} : std::string{c};
  return result;
}

std::string_view name_of_kind(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kText:
      return "text";
    case ParameterKind::kPath:
      return "path";
    case ParameterKind::kInteger:
      return "number";
    case ParameterKind::kBytes:
      return "size";
    case ParameterKind::kDuration:
      return "duration";
    case ParameterKind::kFraction:
      return "fraction";
    case ParameterKind::kBool:
      return "yes or no";
    case ParameterKind::kChoice:
      return "choice";
    case ParameterKind::kSpec:
      return "spec";
  }
  return "";
}

/// "size, 1GiB to 16TiB", "none, batch or always".
std::string values_of(const Parameter& row) {
  if (row.kind == ParameterKind::kChoice) return replaced(row.choices, '|', ", ");
  std::string text{name_of_kind(row.kind)};
  const std::string minimum{row.minimum};
  const std::string maximum{row.maximum};
  if (!minimum.empty() && !maximum.empty()) {
    text += ", " + minimum + " to " + maximum;
  } else if (!minimum.empty()) {
    text += ", at least " + minimum;
  } else if (!maximum.empty()) {
    text += ", at most " + maximum;
  }
  return text;
}

std::string default_of(const Parameter& row) {
  if (row.is_required) return "required";
  return row.default_text.empty() ? "not set" : std::string{row.default_text};
}

std::string location_sentence(const ConnectorType& type) {
  const std::string name{type.name};
  if (type.location_parameter.empty()) return "Nothing stands between '" + name + ":' and '?'.";
  return "The text between '" + name + ":' and '?' is '" + std::string{type.location_parameter} +
         "'.";
}

std::string cell(std::string_view text) {
  return replaced(text, '|', "\\|");
}

}  // namespace

std::string describe(const ConnectorType& type) {
  std::string text{type.name};
  text += ": " + std::string{type.summary} + "\n\n";
  text += "Example: " + std::string{type.example} + "\n";
  if (type.parameters.empty()) return text + "\nIt has no parameters.\n";
  text += location_sentence(type) + "\n\nParameters:\n";
  for (const Parameter& row : type.parameters) {
    text += "  " + std::string{row.name} + " (" + values_of(row) + "; ";
    text += row.is_required || row.default_text.empty() ? "" : "default ";
    text += default_of(row) + (row.is_secret ? "; secret" : "") + ")\n";
    text += "      " + std::string{row.help} + "\n";
  }
  return text;
}

std::string describe_markdown(std::span<const ConnectorType* const> types) {
  std::string text =
      "# Connectors\n\n"
      "A *connector* is one kind of storage, and a *spec* such as `log:/data/kv?capacity=200GiB` "
      "names a store of that kind and configures it. How a spec is written, as a URL or as JSON, "
      "which connector to take, and what sizes and durations look like, is in "
      "[specs.md](specs.md).\n\n"
      "This page has every type that is built in, with its parameters. `larder connectors TYPE` "
      "shows the same in a terminal, and `larder connectors --markdown` writes this page.\n\n"
      "| type | what it is |\n|---|---|\n";
  for (const ConnectorType* type : types) {
    const std::string name{type->name};
    text += "| [" + name + "](#" + name + ") | " + cell(type->summary) + " |\n";
  }
  for (const ConnectorType* type : types) {
    text += '\n';
    text += "## " + std::string{type->name} + "\n\n" + std::string{type->summary} + "\n\n";
    text += "Example: `" + std::string{type->example} + "`\n";
    if (type->parameters.empty()) {
      text += "\nIt has no parameters.\n";
      continue;
    }
    text += "\n" + location_sentence(*type) + "\n\n";
    // One connector may have several names: its table stands under the first.
    const auto first = std::ranges::find_if(types, [type](const ConnectorType* other) {
      return other->parameters.data() == type->parameters.data();
    });
    if (*first != type) {
      text += "Its parameters are those of [" + std::string{(*first)->name} + "](#" +
              std::string{(*first)->name} + ").\n";
      continue;
    }
    text += "| parameter | value | default | what it does |\n|---|---|---|---|\n";
    for (const Parameter& row : type->parameters) {
      text += "| `" + std::string{row.name} + "` | " + cell(values_of(row)) + " | " +
              cell(default_of(row)) + " | " + cell(row.help) +
              (row.is_secret ? " Secret: never shown." : "") + " |\n";
    }
  }
  return text;
}

}  // namespace larder
