#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include "larder/base/result.h"

namespace larder::server {

/// Survives the worker that truncates its shared memory while it is copied (S19). The kernel
/// answers an access behind the end of a file with SIGBUS, which ends the process unless it is
/// caught; a full tmpfs does the same.
///
/// install() takes SIGBUS for the process, once, and for good. A signal that is not for a guard
/// goes
///   to the handler that was there before, or ends the process as it would have.
/// Threads: any; a guard is its thread's.
class FaultGuard {
 public:
  using Memory = std::span<const std::span<std::byte>>;

  static Status install() noexcept;

  /// Runs `body`, and ends it at once when an access to `memory` raises SIGBUS: false. What it has
  /// done until then stays.
  ///
  /// It may be left at any access, by siglongjmp: neither it nor what it calls may hold a lock, own
  /// memory, or have an object with a destructor that matters. Not nested. Cost: some nanoseconds.
  template <class Body>
  static bool run(Memory memory, const Body& body) noexcept {
    static_assert(std::is_trivially_destructible_v<Body>);
    return run_erased(
        memory, [](const void* erased) noexcept { (*static_cast<const Body*>(erased))(); }, &body);
  }

 private:
  static bool run_erased(Memory memory, void (*call)(const void*) noexcept,
                         const void* body) noexcept;
};

}  // namespace larder::server
