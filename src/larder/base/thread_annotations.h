#pragma once

// Clang's thread-safety analysis; empty for other compilers.
#if defined(__clang__)
#define LARDER_TSA(x) __attribute__((x))
#else
#define LARDER_TSA(x)
#endif
#define LARDER_CAPABILITY(name) LARDER_TSA(capability(name))
#define LARDER_SCOPED_CAPABILITY LARDER_TSA(scoped_lockable)
#define LARDER_GUARDED_BY(mutex) LARDER_TSA(guarded_by(mutex))
#define LARDER_REQUIRES(...) LARDER_TSA(requires_capability(__VA_ARGS__))
#define LARDER_EXCLUDES(...) LARDER_TSA(locks_excluded(__VA_ARGS__))
#define LARDER_ACQUIRE(...) LARDER_TSA(acquire_capability(__VA_ARGS__))
#define LARDER_TRY_ACQUIRE(...) LARDER_TSA(try_acquire_capability(__VA_ARGS__))
#define LARDER_RELEASE(...) LARDER_TSA(release_capability(__VA_ARGS__))
#define LARDER_NO_THREAD_SAFETY_ANALYSIS LARDER_TSA(no_thread_safety_analysis)
