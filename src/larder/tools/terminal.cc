#include "larder/tools/terminal.h"

#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace larder::tools {

TerminalSize terminal_size(int fd) noexcept {
  TerminalSize known;
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return known;
  if (size.ws_row != 0) known.rows = size.ws_row;
  if (size.ws_col != 0) known.columns = size.ws_col;
  return known;
}

std::size_t terminal_columns(int fd) noexcept {
  return terminal_size(fd).columns;
}

bool is_locale_utf8() noexcept {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* const value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const char* const charset = std::strchr(value, '.');  // As in en_US.UTF-8@euro.
    if (charset == nullptr) return false;
    return ::strncasecmp(charset, ".UTF-8", 6) == 0 || ::strncasecmp(charset, ".utf8", 5) == 0;
  }
  return false;
}

bool is_screen(int fd) noexcept {
  const char* const type = std::getenv("TERM");
  return ::isatty(fd) == 1 && type != nullptr && *type != '\0' && std::strcmp(type, "dumb") != 0;
}

bool is_color_allowed() noexcept {
  const char* const value = std::getenv("NO_COLOR");
  return value == nullptr || *value == '\0';
}

}  // namespace larder::tools
