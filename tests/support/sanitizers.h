#pragma once

#if !defined(__has_feature)
#define __has_feature(feature) 0  // GCC; its names of the sanitizers stand beside.
#endif

namespace larder::testing {

/// Address space then holds a sanitizer's shadow, many times of what the program uses.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kHasShadowMemory = true;
#else
inline constexpr bool kHasShadowMemory = false;
#endif

}  // namespace larder::testing
