#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connector/metrics.h"
#include "larder/connector/parameters.h"
#include "larder/connector/spec.h"

namespace larder {

class Registry;

/// The description of a connector type. One object per type, which lives until the process ends: a
/// static one in its folder, or the plugin's.
struct ConnectorType {
  std::string_view name;                ///< "log"
  std::string_view summary;             ///< One sentence.
  std::string_view example;             ///< A spec that works.
  std::string_view location_parameter;  ///< Which parameter the URL's location is; empty: none.
  std::span<const Parameter> parameters;
  /// The meaning of the counters in its reports that are its own.
  std::span<const MetricRow> metrics = {};
  /// Opens one of `type`, which is this object. `registry` is for types that wrap others. May block
  /// (start-up).
  SetupResult<std::unique_ptr<Connector>> (*open)(const ConnectorType& type,
                                                  const Parameters& parameters,
                                                  const Registry& registry);
};

/// A spec as its type reads it, with nothing opened yet.
struct ReadSpec {
  const ConnectorType* type = nullptr;
  Parameters parameters;
};

/// Connector types by name.
///
/// Threads: add() and refuse() before use, from one thread; the rest from any.
class Registry {
 public:
  void add(const ConnectorType& type) { types_.push_back(&type); }
  /// Makes read() and open() fail with `why`: a plugin is missing, and without it a spec could
  /// open something else. Later calls change nothing.
  void refuse(SetupError why) {
    if (!refusal_) refusal_ = std::move(why);
  }
  /// The argument of the first refuse(), if there was one.
  const std::optional<SetupError>& refusal() const noexcept { return refusal_; }

  /// Checks all of `spec` that can be checked without opening it.
  SetupResult<ReadSpec> read(const Spec& spec) const;
  /// Opens what `spec` names. An unknown type is an error with the nearest name and the list.
  SetupResult<std::unique_ptr<Connector>> open(const Spec& spec) const;
  SetupResult<std::unique_ptr<Connector>> open(std::string_view spec_text) const;

  std::span<const ConnectorType* const> types() const noexcept { return types_; }
  const ConnectorType* find(std::string_view name) const noexcept;

 private:
  std::vector<const ConnectorType*> types_;
  std::optional<SetupError> refusal_;
};

/// The first error in a type's table, if there is one: a default or bound that does not parse, a
/// default out of bounds, a missing help text, an example that the table refuses. For tests.
SetupStatus check_table(const ConnectorType& type);

}  // namespace larder
