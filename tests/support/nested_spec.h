#pragma once

#include <array>
#include <cstdio>
#include <string>
#include <string_view>

namespace larder::testing {

/// A spec as the value of a parameter of another one.
inline std::string nested_spec(std::string_view spec) {
  std::string text;
  for (const char c : spec) {
    if (std::string_view{"?&#%"}.find(c) == std::string_view::npos) {
      text += c;
      continue;
    }
    std::array<char, 4> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "%%%02X", static_cast<unsigned>(c));
    text += escaped.data();
  }
  return text;
}

}  // namespace larder::testing
