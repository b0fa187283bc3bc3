#pragma once

#include <string>
#include <vector>

#include "larder/conformance/conformance.h"
#include "larder/connector/registry.h"

namespace larder::conformance {

/// A subject made of a spec, and what cannot be tested with it.
struct SpecSubject {
  Subject subject;
  std::vector<std::string> untested;  ///< Each a sentence with its remedy where there is one.
};

/// Describes the connector that `spec` names. `small_spec` is the same with as little capacity as
/// it can have; empty: no case fills the connector.
///
/// Every case needs an empty store. Where the spec contains `{}`, each open has a number of its own
/// in its place (`shelf:/tmp/c/{}`). Otherwise what a case left behind is listed and deleted. A
/// store that holds keys at the beginning is refused, and so is one that survives, does not list
/// its keys and has no `{}`.
/// `registry` outlives the subject. Opens the connector once.
SetupResult<SpecSubject> subject_of_spec(const Registry& registry, const std::string& spec,
                                         const std::string& small_spec);

/// Waits until a connector that counts in the background what it holds (`fs:`) has done so, a
/// minute at most: cases ask for exact numbers.
void wait_until_counted(const Connector& connector);

}  // namespace larder::conformance
