#pragma once

#include <span>
#include <string_view>

#include "larder/base/result.h"
#include "larder/cache/policies/policy.h"

namespace larder::tools {

/// FIFO and CLOCK, which the engine does not have: simple policies to compare the others with.
///
/// FIFO: the column that was inserted first is evicted first; a use changes nothing.
/// CLOCK (Corbató: "A Paging Experiment with the Multics System", MIT, 1968): FIFO in which a
///   column that was used since it was inserted, or since it was passed over, is passed over once.
std::span<const cache::PolicyKind> baseline_policies() noexcept;

/// One of the engine's policies or of the above, by name, in any case. An unknown one:
/// kInvalidArgument, with the nearest valid name and the list.
SetupResult<const cache::PolicyKind*> find_simulated_policy(std::string_view name);

}  // namespace larder::tools
