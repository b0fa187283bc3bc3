#pragma once

#include <span>
#include <string_view>

namespace larder {

/// The candidate nearest to `name` by edit distance, or empty when none is near: what an error says
/// beside an unknown name. Pure; any thread.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace larder
