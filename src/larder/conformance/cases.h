#pragma once

#include <span>

#include "larder/conformance/conformance.h"

namespace larder::conformance {

// One table a file; conformance_cases() joins them.
std::span<const Case> outcome_cases();
std::span<const Case> value_cases();
std::span<const Case> key_cases();
std::span<const Case> batch_cases();
std::span<const Case> ending_cases();
std::span<const Case> race_cases();
std::span<const Case> model_cases();
std::span<const Case> view_cases();
std::span<const Case> hint_cases();

}  // namespace larder::conformance
