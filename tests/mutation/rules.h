#pragma once

#include <span>

#include "larder/connectors/log/rule.h"
#include "tests/conformance/broken_connector.h"

namespace larder::mutation {

/// Which tests must notice.
enum class Ring : std::uint8_t {
  kSimulation = 0,  ///< Seeds of tests/simulation.
  kDirected,        ///< tests/simulation/directed_test.cc: one chosen history each.
  kUnit,            ///< The log store's unit tests.
};

/// A rule of docs/format_log.md and what is done instead of it when it is broken.
struct BrokenRule {
  log_store::Rule rule = log_store::Rule::kNone;
  const char* letter = "";
  const char* name = "";
  const char* what = "";
  Ring ring = Ring::kSimulation;
  const char* tests = "";  ///< kDirected, kUnit: a filter of GoogleTest.
};
std::span<const BrokenRule> broken_rules();

/// A rule of connector.h, broken by a connector of tests/conformance.
struct BrokenContract {
  conformance::Defect defect = conformance::Defect::kNone;
  const char* letter = "";
  const char* what = "";
};
std::span<const BrokenContract> broken_contracts();

}  // namespace larder::mutation
