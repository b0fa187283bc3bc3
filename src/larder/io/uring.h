#pragma once

#include <liburing.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "larder/base/fork_guard.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

/// One io_uring with a sparse table of registered files; the only place that sets one up. Uses
/// SINGLE_ISSUER and DEFER_TASKRUN where the kernel has them: then it is made disabled, and the
/// thread that calls enable() is the only one that may submit, look for completions or change the
/// file table from then on (before, any thread may register files).
///
/// The destructor waits until the kernel has ended every request and released every file, in
/// whichever thread it runs. Ownership: owns the ring, not the files.
class Uring {
 public:
  /// `entries` requests fit into the submission queue. The file table has `files_max` slots, or as
  /// many as the limit of open files allows, and at most 65,536.
  static Result<std::unique_ptr<Uring>> create(unsigned entries, std::uint32_t files_max);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  io_uring& ring() noexcept { return ring_; }
  Status enable() noexcept;
  /// True when one thread, the one that called enable(), must do everything.
  bool has_one_issuer() const noexcept { return (ring_.flags & IORING_SETUP_SINGLE_ISSUER) != 0; }
  std::uint32_t files_max() const noexcept { return files_max_; }
  /// `fd` of -1 empties the slot.
  Status set_file(std::uint32_t slot, int fd) noexcept;
  /// Empties the table now. A ring that is closed with files in its table keeps them, and so their
  /// file system busy, for some milliseconds. No request is in flight.
  void release_files() noexcept;
  /// Tells the destructor how many requests the kernel may still have. 0: it does not wait.
  void set_in_flight(std::uint64_t requests) noexcept { in_flight_ = requests; }

 private:
  Uring() noexcept = default;
  Status register_files(std::uint32_t files_max) noexcept;

  io_uring ring_{};
  ForkGuard guard_;  // A child's copy would keep the ring and every file in its table.
  bool has_ring_ = false;
  std::uint32_t files_max_ = 0;
  std::uint64_t in_flight_ = 0;
  // Hangs up when the kernel has released the file table, whose last slot holds the other end:
  // after the last request. The one way to learn this from a thread that may not use the ring.
  UniqueFd released_;
};

/// Describes the rest of a request; the completion's user data then points to the request. `file`
/// is a descriptor, or a slot of the file table when the caller adds IOSQE_FIXED_FILE.
void prepare_transfer(io_uring_sqe& entry, int file, Request& request) noexcept;
/// Whether io_uring_enter() may be called again after this result: requests that the kernel did not
/// take stay in the submission queue.
bool is_transient_enter_result(int result) noexcept;

}  // namespace larder::io
