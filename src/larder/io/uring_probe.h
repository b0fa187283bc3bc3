#pragma once

#include "larder/base/result.h"

namespace larder::io {

/// Whether this process may use io_uring: sets a ring up as devices do, registers a file table and
/// has one request carried out, because a container may forbid each of the three system calls.
Status probe_uring();

}  // namespace larder::io
