#pragma once

#include <cstdint>
#include <string>

#include "larder/base/result.h"

namespace larder::io {

/// Whether this process may use io_uring: sets a ring up as devices do, registers a file table and
/// has one request carried out, because a container may forbid each of the three system calls.
Status probe_uring();

/// The choice in the environment: none, LARDER_IO=uring, LARDER_IO=threads. Any other value is an
/// error.
enum class UringWish : std::uint8_t { kIfPossible = 1, kRequired, kNever };
SetupResult<UringWish> uring_wish();

/// Whether transfers should use rings: as the environment chooses, and without a choice as
/// probe_uring() finds. `why_not` says why they cannot although the environment does not forbid
/// them.
struct RingChoice {
  bool has_ring = false;
  std::string why_not;
};
SetupResult<RingChoice> choose_ring();

}  // namespace larder::io
