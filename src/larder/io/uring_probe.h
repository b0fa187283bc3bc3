#pragma once

#include <cstdint>
#include <string>

#include "larder/base/result.h"

namespace larder::io {

/// Whether this process may use io_uring: sets a ring up as devices do, registers a file table and
/// has one request carried out, because a container may forbid each of the three system calls.
Status probe_uring();

/// What the environment says: nothing, LARDER_IO=uring, LARDER_IO=threads. Any other value is an
/// error.
enum class UringWish : std::uint8_t { kIfPossible = 1, kRequired, kNever };
SetupResult<UringWish> uring_wish();

/// Whether transfers should go over rings: as the environment wishes, and where it wishes nothing,
/// as probe_uring() finds. `why_not` says why there are none although nobody forbade them.
struct RingChoice {
  bool has_ring = false;
  std::string why_not;
};
SetupResult<RingChoice> choose_ring();

}  // namespace larder::io
