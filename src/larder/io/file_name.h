#pragma once

#include <string_view>

namespace larder::io {

/// True for a name that means one entry of the directory itself, and not a path elsewhere.
inline bool is_plain_file_name(std::string_view name) noexcept {
  constexpr std::size_t kLongest = 255;
  if (name.empty() || name.size() > kLongest || name == "." || name == "..") return false;
  return name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

}  // namespace larder::io
