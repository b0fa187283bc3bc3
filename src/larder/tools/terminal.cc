#include "larder/tools/terminal.h"

#include <strings.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace larder::tools {

std::size_t terminal_columns(int fd) noexcept {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUnknownColumns;
  return size.ws_col;
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

}  // namespace larder::tools
