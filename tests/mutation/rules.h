#pragma once

#include <cstdint>
#include <span>

#include "larder/cache/cache_rule.h"
#include "larder/connector/intake_rule.h"
#include "larder/connectors/log/format/rule.h"
#include "tests/conformance/broken_connector.h"

namespace larder::mutation {

/// Which tests must notice.
enum class Ring : std::uint8_t {
  kSimulation = 0,  ///< Seeds of tests/simulation.
  kDirected,        ///< tests/simulation/directed_test.cc: one chosen history each.
  kUnit,            ///< The log store's unit tests.
  kConnectorUnit,   ///< Those of connector/.
  kCacheUnit,       ///< Those of cache/.
};

/// A rule of docs/format_log.md, of connector.h as the intake keeps it, or of docs/engine.md, and
/// what is done instead of it when it is broken.
struct BrokenRule {
  constexpr BrokenRule(log_store::Rule broken, const char* of, const char* called,
                       const char* instead, Ring by = Ring::kSimulation, const char* filter = "")
      : number(static_cast<std::uint32_t>(broken)),
        letter(of),
        name(called),
        what(instead),
        ring(by),
        tests(filter) {}
  constexpr BrokenRule(IntakeRule broken, const char* of, const char* called, const char* instead,
                       bool also_by_seeds = false)
      : number(static_cast<std::uint32_t>(broken)),
        letter(of),
        name(called),
        what(instead),
        ring(Ring::kConnectorUnit),
        tests("IntakeTest.*"),
        has_seeds(also_by_seeds) {}
  constexpr BrokenRule(cache::CacheRule broken, const char* of, const char* called,
                       const char* instead, const char* filter, bool also_by_seeds = true)
      : number(static_cast<std::uint32_t>(broken)),
        letter(of),
        name(called),
        what(instead),
        ring(Ring::kCacheUnit),
        tests(filter),
        has_seeds(also_by_seeds) {}

  std::uint32_t number = 0;  ///< For break_rule().
  const char* letter = "";
  const char* name = "";
  const char* what = "";
  Ring ring = Ring::kSimulation;
  const char* tests = "";  ///< Not of the simulation: a filter of GoogleTest.
  /// The simulation's seeds must notice it, too: tests/engine_simulation all rules of the engine,
  /// tests/simulation some of the intake's. It cannot notice those of the intake that a machine of
  /// one thread does not meet: it begins an item when it takes it.
  bool has_seeds = false;
};
std::span<const BrokenRule> broken_rules();
std::span<const BrokenRule> broken_intake_rules();
std::span<const BrokenRule> broken_cache_rules();

/// A rule of connector.h, broken by a connector of tests/conformance.
struct BrokenContract {
  conformance::Defect defect = conformance::Defect::kNone;
  const char* letter = "";
  const char* what = "";
};
std::span<const BrokenContract> broken_contracts();

}  // namespace larder::mutation
