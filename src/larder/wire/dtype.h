#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace larder::wire {

/// Bytes of one element of a torch type by its name without "torch.", e.g. 2 for "float16"; nothing
/// for a name that torch does not have.
std::optional<std::size_t> dtype_bytes(std::string_view name) noexcept;

/// The known name nearest to `name`, or empty.
std::string_view nearest_dtype(std::string_view name);

}  // namespace larder::wire
