#pragma once

#include <optional>
#include <string_view>

#include "larder/connector/batch_limits.h"
#include "larder/connector/parameters.h"

namespace larder {

/// What the rows `batches_max` (kInteger) and `in_flight` (kBytes) of a type's table say.
BatchLimitOptions batch_limits_of(const Parameters& parameters);

/// The whole of a text as a decimal number, as in 0.5 or 200, for parameters whose unit is
/// LMCache's own; nothing when it is none. The caller bounds it, also against "nan" and "inf".
std::optional<double> parse_number(std::string_view text) noexcept;

}  // namespace larder
