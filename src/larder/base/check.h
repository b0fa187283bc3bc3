#pragma once

#include <cstdio>
#include <cstdlib>

namespace larder::internal {
[[noreturn]] inline void check_failed(const char* file, int line, const char* condition) noexcept {
  std::fprintf(stderr, "%s:%d: LARDER_CHECK failed: %s\n", file, line, condition);
  std::abort();
}
}  // namespace larder::internal

/// An invariant of larder itself, checked in every build type. Whatever the outside world can cause
/// (I/O, input, limits) is returned as an Error instead.
#define LARDER_CHECK(condition)                                         \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::larder::internal::check_failed(__FILE__, __LINE__, #condition); \
  } while (false)
