#include "larder/connector/registry.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <set>
#include <system_error>

#include "larder/base/nearest_name.h"
#include "larder/base/unique_fd.h"

namespace larder {
namespace {

/// A Python process has this type too; to a command it must not look like a mistake in writing.
constexpr std::string_view kPythonType = "python";

constexpr std::string_view kFileScheme = "file";

/// The location in "cache:6379".
bool is_port(const Spec& spec) {
  const auto location = spec.parameters().find("");
  return location != spec.parameters().end() &&
         std::ranges::all_of(location->second, [](char c) { return c >= '0' && c <= '9'; });
}

SetupError unknown_type(const Spec& spec, std::span<const ConnectorType* const> types) {
  if (spec.type() == kPythonType) {
    return SetupError{ErrorCode::kUnimplemented,
                      "python: a connector written in Python needs a Python interpreter, and this "
                      "program has none; open it from Python: larder.open(\"python:...\"), or "
                      "larder.lmcache.Connector(url=\"python:...\")"};
  }
  if (spec.type() == kFileScheme) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        "there is no connector type 'file': log:/data/kv names a store of larder's own on this "
        "machine's disk, fs:/data/kv a directory of LMCache's files"};
  }
  std::vector<std::string_view> names;
  for (const ConnectorType* type : types) names.push_back(type->name);
  std::ranges::sort(names);
  std::string text = "unknown connector type '" + spec.type().substr(0, 64) + "'";
  if (const std::string_view nearest = nearest_name(spec.type(), names); !nearest.empty()) {
    text += ": did you mean '" + std::string{nearest} + "'?";
  } else {
    text += '.';
  }
  text += " Known types: ";
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::string{names[i]};
  }
  if (names.empty()) text += "none";
  if (is_port(spec)) text += ". A Redis server is named redis://HOST:PORT";
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// An open probes what a place can do, and a probe that fails for want of a descriptor would give a
/// wrong answer for as long as the connector is open.
Status check_descriptors() {
  constexpr std::size_t kAtLeast = 16;
  std::array<UniqueFd, kAtLeast> fds;
  fds[0].reset(::open("/", O_PATH | O_CLOEXEC));
  for (std::size_t i = 1; i < kAtLeast && fds[i - 1]; ++i) {
    fds[i].reset(::fcntl(fds[0].get(), F_DUPFD_CLOEXEC, 0));
  }
  if (fds.back()) return {};
  return Error::from_errno(errno, "registry", "getting the 16 descriptors that an open may need");
}

ErrorCode code_of(const std::system_error& error) {
  return Error::from_errno(error.code().value(), "", "").code();
}

/// One row, read as if a user had written `text`.
SetupStatus check_text(const ConnectorType& type, const Parameter& row, std::string_view text) {
  Spec spec;
  spec.set_type(std::string{type.name});
  spec.set(std::string{row.name}, std::string{text});
  LARDER_TRY(Parameters::parse(spec, {&row, 1}));
  return {};
}

/// A location that is missing is best shown in its position.
SetupStatus check_location(const ConnectorType& type, const Spec& spec) {
  const auto row = std::ranges::find(type.parameters, type.location_parameter, &Parameter::name);
  if (row == type.parameters.end() || !row->is_required) return {};
  if (spec.parameters().contains(row->name)) return {};
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{type.name} + ": '" + std::string{row->name} +
                        "' is missing, which stands behind '" + std::string{type.name} +
                        ":'; write for example " + std::string{type.example}};
}

bool is_numeric(ParameterKind kind) {
  return kind == ParameterKind::kInteger || kind == ParameterKind::kBytes ||
         kind == ParameterKind::kDuration || kind == ParameterKind::kFraction;
}

SetupStatus check_row(const ConnectorType& type, const Parameter& row) {
  const auto wrong = [&](std::string_view what) {
    return SetupError{ErrorCode::kInternal, std::string{type.name} + ": table row '" +
                                                std::string{row.name} + "': " + std::string{what}};
  };
  if (row.name.empty() || row.name == "type") return wrong("a row must have a name, not 'type'");
  if (!row.help.ends_with('.')) return wrong("the help must be a sentence");
  if (row.is_required && !row.default_text.empty()) return wrong("required, but has a default");
  if ((row.kind == ParameterKind::kChoice) == row.choices.empty()) {
    return wrong("choices belong to kChoice, and kChoice has some");
  }
  const bool has_bounds = !row.minimum.empty() || !row.maximum.empty();
  if (has_bounds && !is_numeric(row.kind)) return wrong("only numbers have bounds");
  // Each bound must lie within the other one too.
  for (const std::string_view text : {row.minimum, row.maximum, row.default_text, row.example}) {
    if (!text.empty()) LARDER_TRY(check_text(type, row, text));
  }
  return {};
}

}  // namespace

const ConnectorType* Registry::find(std::string_view name) const noexcept {
  const auto found = std::ranges::find_if(
      types_, [name](const ConnectorType* type) { return type->name == name; });
  return found == types_.end() ? nullptr : *found;
}

SetupResult<ReadSpec> Registry::read(const Spec& spec) const {
  if (refusal_) return *refusal_;
  const ConnectorType* const type = find(spec.type());
  if (type == nullptr) return unknown_type(spec, types_);
  Spec named = spec;
  LARDER_TRY(named.rename_location(type->location_parameter));
  LARDER_TRY(check_location(*type, named));
  LARDER_ASSIGN(Parameters parameters, Parameters::parse(named, type->parameters));
  return ReadSpec{.type = type, .parameters = std::move(parameters)};
}

SetupResult<std::unique_ptr<Connector>> Registry::open(const Spec& spec) const {
  LARDER_ASSIGN(const ReadSpec read_spec, read(spec));
  if (const Status checked = check_descriptors(); !checked) {
    return SetupError{checked.error().code(), spec.type() + ": " + checked.error().to_string()};
  }
  try {
    return read_spec.type->open(*read_spec.type, read_spec.parameters, *this);
  } catch (const std::system_error& error) {
    return SetupError{code_of(error), spec.type() + ": opening failed: " + error.what()};
  } catch (const std::exception& error) {
    return SetupError{ErrorCode::kInternal, spec.type() + ": opening failed: " + error.what()};
  } catch (...) {
    return SetupError{ErrorCode::kInternal, spec.type() + ": opening failed: unknown exception"};
  }
}

SetupResult<std::unique_ptr<Connector>> Registry::open(std::string_view spec_text) const {
  LARDER_ASSIGN(const Spec spec, Spec::parse(spec_text));
  return open(spec);
}

SetupStatus check_table(const ConnectorType& type) {
  const std::string name{type.name};
  const auto wrong = [&](std::string_view what) {
    return SetupError{ErrorCode::kInternal, name + ": " + std::string{what}};
  };
  if (!type.summary.ends_with('.')) return wrong("the summary must be a sentence");
  if (type.open == nullptr) return wrong("open is missing");
  std::set<std::string_view> names;
  for (const Parameter& row : type.parameters) {
    LARDER_TRY(check_row(type, row));
    if (!names.insert(row.name).second) return wrong("a parameter stands twice in the table");
  }
  if (!type.location_parameter.empty() && !names.contains(type.location_parameter)) {
    return wrong("the location parameter is not in the table");
  }
  LARDER_ASSIGN(Spec example, Spec::parse(type.example));
  if (example.type() != type.name) return wrong("the example is of another type");
  LARDER_TRY(example.rename_location(type.location_parameter));
  LARDER_TRY(Parameters::parse(example, type.parameters));
  return {};
}

}  // namespace larder
