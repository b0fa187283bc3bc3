#include "module/back/python_registry.h"

#include <array>

#include "larder/connectors/builtin.h"
#include "module/back/python_connector.h"
#include "module/common/python_error.h"
#include "module/common/python_thread.h"

namespace larder::python {
namespace {

constexpr const char* kModule = "larder.connectors";
constexpr std::string_view kType = "python";
constexpr std::string_view kFactory = "factory";

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// Calls a function of larder.connectors with texts. The error is the exception's own text.
template <class... Texts>
SetupResult<Reference> call(const char* function, const Texts&... texts) {
  const Reference module = Reference::steal(PyImport_ImportModule(kModule));
  const Reference method =
      Reference::steal(module ? PyObject_GetAttrString(module.get(), function) : nullptr);
  const std::array<Reference, sizeof...(texts)> arguments{Reference::steal(
      PyUnicode_DecodeUTF8(texts.data(), static_cast<Py_ssize_t>(texts.size()), "strict"))...};
  std::array<PyObject*, sizeof...(texts)> borrowed{};
  bool is_good = static_cast<bool>(method);
  for (std::size_t i = 0; i < borrowed.size(); ++i) {
    borrowed.at(i) = arguments.at(i).get();
    is_good = is_good && borrowed.at(i) != nullptr;
  }
  Reference result = Reference::steal(
      is_good ? PyObject_Vectorcall(method.get(), borrowed.data(), borrowed.size(), nullptr)
              : nullptr);
  if (!result) return invalid(take_message());
  return result;
}

SetupResult<bool> is_known(const std::string& type) {
  LARDER_ASSIGN(const Reference found, call("_is_known", type));
  return found.get() == Py_True;
}

/// The names that the registry uses itself, and the connectors that packages provide.
SetupError unknown_type(const Spec& spec) {
  std::string text = python_registry().open(spec).error().text;
  const auto names = call("_names");
  const char* const shown = names ? PyUnicode_AsUTF8(names->get()) : nullptr;
  PyErr_Clear();
  if (shown != nullptr && *shown != '\0') text += std::string{"; from Python packages: "} + shown;
  return invalid(std::move(text));
}

/// A text that `python`'s table can read: the object's parameters, as JSON.
SetupResult<Spec> wrap(Spec spec) {
  std::string factory;
  if (spec.type() == kType) {
    LARDER_TRY(spec.rename_location(kFactory));
    const auto found = spec.parameters().find(kFactory);
    if (found == spec.parameters().end() || found->second.empty()) {
      return invalid(
          "python: names no class; wanted python:package.module:Class?name=value, as in "
          "python:mystore:SqliteStore?path=/data/kv.db");
    }
    factory = found->second;
  }
  Spec arguments;
  arguments.set_type("arguments");
  for (const auto& [name, value] : spec.parameters()) {
    if (factory.empty() || name != kFactory) arguments.set(name, value);
  }
  Spec wrapped;
  wrapped.set_type(std::string{kType});
  wrapped.set("factory", factory);
  wrapped.set("name", spec.type());
  wrapped.set("arguments", arguments.to_json());
  return wrapped;
}

SetupResult<Spec> resolve(Spec spec) {
  const ConnectorType* const type = python_registry().find(spec.type());
  if (type == nullptr) {
    LARDER_ASSIGN(const bool is_python, is_known(spec.type()));
    if (is_python) return wrap(std::move(spec));
    return unknown_type(spec);
  }
  if (type->name == kType) return wrap(std::move(spec));
  for (const Parameter& row : type->parameters) {
    const auto given = spec.parameters().find(row.name);
    if (row.kind != ParameterKind::kSpec || given == spec.parameters().end()) continue;
    auto inner = Spec::parse(given->second);
    if (!inner) continue;
    LARDER_ASSIGN(inner, resolve(std::move(*inner)));
    spec.set(std::string{row.name}, inner->to_url());
  }
  return spec;
}

// ---- The type -----------------------------------------------------------------------------------

// For wrapped specs; people do not write these rows by hand.
constexpr std::array kParameters{
    Parameter{.name = "factory", .help = "package.module:Class, or empty for a type's name."},
    Parameter{.name = "name", .help = "The spec's type as it was written.", .is_required = true},
    Parameter{.name = "arguments",
              .help = "The constructor's keyword arguments, as a JSON object.",
              .is_required = true,
              .is_secret = true},
};

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  const std::string& name = parameters.text("name");
  const std::string& factory = parameters.text("factory");
  const WithGil with_gil;
  if (is_exiting()) return SetupError{ErrorCode::kCancelled, name + ": the interpreter is ending"};
  LARDER_ASSIGN(const Reference object, call("_make", name, factory, parameters.text("arguments")));
  auto made = make_python_connector(object.get(), name, factory);
  if (made) return made;
  return SetupError{made.error().code,
                    name + (factory.empty() ? "" : ":" + factory) + ": " + made.error().text};
}

constexpr MetricRow kMetrics[] = {
    {"bytes_staged_total", MetricKind::kCounter, "Bytes that were copied for the object."},
    {"method_errors_total", MetricKind::kCounter, "Calls of the object that raised."},
    {"views_kept_total", MetricKind::kCounter,
     "Buffers that the object kept beyond the end of its call."},
    {"completions_unknown_total", MetricKind::kCounter,
     "Completions of a native client for something that it had not been given."},
    {"completions_malformed_total", MetricKind::kCounter,
     "Completions of a native client that had no sense."},
    {"drain_errors_total", MetricKind::kCounter, "Calls of a native client's drain that raised."},
    {"connections", MetricKind::kGauge, "Objects that are connected."},
    {"connect_failures_total", MetricKind::kCounter, "Attempts to make one that failed."},
};

constexpr ConnectorType kPythonType{
    .name = kType,
    .summary = "A connector that is written in Python.",
    .example = "python:package.module:Class",
    .location_parameter = kFactory,
    .parameters = kParameters,
    .metrics = kMetrics,
    .open = open,
};

}  // namespace

const Registry& python_registry() {
  static const Registry registry = [] {
    Registry all = builtin_registry();
    all.add(kPythonType);
    return all;
  }();
  return registry;
}

SetupResult<Spec> resolve_spec(std::string_view text) {
  LARDER_ASSIGN(Spec spec, Spec::parse(text));
  return resolve(std::move(spec));
}

}  // namespace larder::python
