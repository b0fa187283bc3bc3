#pragma once

#include <span>
#include <string_view>

namespace larder {

/// The candidate nearest to `name` by edit distance, or empty when none is near: an error about an
/// unknown name suggests it. Pure; may run in any thread.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace larder
