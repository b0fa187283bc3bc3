#pragma once

#include <string>
#include <vector>

#include "larder/conformance/conformance.h"
#include "larder/connector/registry.h"

namespace larder::conformance {

/// A subject made from a spec, and the parts of the suite that do not apply to it.
struct SpecSubject {
  Subject subject;
  std::vector<std::string> untested;  ///< One sentence each, with its reason and any remedy.
};

/// Makes a subject from `spec`. `small_spec` names the same connector with its smallest capacity;
/// if it is empty, no case fills the connector.
///
/// Every case needs an empty store. If the spec contains `{}`, each open puts another number there
/// (`shelf:/tmp/c/{}`), in another run also other numbers; nothing is deleted then. Otherwise the
/// keys that a case left are listed and deleted. A store that holds keys at the beginning is
/// refused, and so is a store that keeps its keys, cannot list them and has no `{}` in its spec.
/// `registry` outlives the subject. Opens the connector once.
SetupResult<SpecSubject> subject_of_spec(const Registry& registry, const std::string& spec,
                                         const std::string& small_spec);

/// Waits, for a minute at most, until a connector that counts its contents in the background
/// (`fs:`) has finished: cases compare exact numbers.
void wait_until_counted(const Connector& connector);

}  // namespace larder::conformance
