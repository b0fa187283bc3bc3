#pragma once

#include <cstddef>

namespace larder::tools {

inline constexpr std::size_t kUnknownColumns = 80;
inline constexpr std::size_t kUnknownRows = 24;

struct TerminalSize {
  std::size_t rows = kUnknownRows;
  std::size_t columns = kUnknownColumns;
};

/// Of the terminal behind `fd`; the defaults if there is none or it does not tell.
TerminalSize terminal_size(int fd) noexcept;
/// How wide it is.
std::size_t terminal_columns(int fd) noexcept;

/// Whether the environment's locale writes UTF-8 (LC_ALL, LC_CTYPE, LANG: the first that is set).
bool is_locale_utf8() noexcept;

/// Whether a person sees `fd` on a terminal that can do more than print lines (TERM).
bool is_screen(int fd) noexcept;

/// Whether NO_COLOR (https://no-color.org) leaves colours to us.
bool is_color_allowed() noexcept;

}  // namespace larder::tools
