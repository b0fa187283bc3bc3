#pragma once

#include <cstdint>
#include <span>

#include "larder/io/transfer_queue.h"

namespace larder::io {

// How a request proceeds whose bytes the kernel moves. The request holds its own progress in
// queue_words[0..1]; the others are free for the queue.

enum class TransferStep : std::uint8_t {
  kEnded = 1,  ///< bytes_done and sys_errno are final.
  kContinue,   ///< Hand remaining_buffers() to the kernel (again), or the sync.
};

/// Called once, at submit. Checks the request; kEnded when there is nothing to move.
TransferStep begin_transfer(Request& request) noexcept;

/// The rest of the buffers; it goes to offset + bytes_done.
std::span<iovec> remaining_buffers(Request& request) noexcept;

/// Takes a result as io_uring gives it: bytes, or a negative errno. A short transfer continues, and
/// so does an interrupted one. `alignment` is that of the file: a short direct read which ends
/// between two aligned places has met the end of the file, since there is no asking for the rest.
TransferStep advance_transfer(Request& request, std::int64_t result,
                              const Alignment& alignment) noexcept;

/// Carries a request out that begin_transfer() wants to continue: preadv(), pwritev() or
/// fdatasync() of `fd` in this thread until it has ended. Blocks.
void run_transfer(Request& request, int fd, const Alignment& alignment) noexcept;

/// A whole request in this thread. Request::file is the descriptor.
void transfer_here(Request& request, const Alignment& alignment) noexcept;

}  // namespace larder::io
