#pragma once

#include <cstddef>

namespace larder::tools {

inline constexpr std::size_t kUnknownColumns = 80;

/// How wide the terminal behind `fd` is; kUnknownColumns where there is none or it does not say.
std::size_t terminal_columns(int fd) noexcept;

/// Whether the environment's locale writes UTF-8 (LC_ALL, LC_CTYPE, LANG: the first that is set).
bool is_locale_utf8() noexcept;

}  // namespace larder::tools
