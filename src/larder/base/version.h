#pragma once

#include <string_view>

namespace larder {

/// "0.1.0": of the project, as the package and `larder --version` have it.
std::string_view version() noexcept;

}  // namespace larder
