#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/result.h"
#include "larder/io/request_queue.h"
#include "larder/io/transfer_queue.h"

namespace larder::io {

class Uring;

/// Transfers over one io_uring. The kernel has at most `depth` requests at once; the others wait in
/// a list that runs through the requests themselves. Requests end as TransferQueue says.
///
/// Files: with a table (`files_max` above 0) Request::file is a slot that set_file() filled;
///   without one it is a descriptor, which must stay open until reap() returned the request.
/// Threads: one thread at a time uses a ring; another one may take over while no request is in
///   flight. The destructor and wake() may be called from any thread. The kernel can tie a ring to
///   the first thread that uses it; when another one takes over, such a ring is replaced. Should
///   the system refuse the new one, every request fails with that errno.
/// Ownership: owns the ring, neither files nor requests. The destructor waits until the kernel has
///   released every buffer. Nothing is allocated after create() but by release_thread() and by a
///   change of threads.
/// Cost: submit() none; reap() one system call when something was submitted since the last one,
///   else usually none; wait() one.
class TransferRing {
 public:
  struct Options {
    std::uint32_t depth = 0;
    std::uint32_t files_max = 0;  ///< Slots of the file table. 0: requests name descriptors.
    Alignment alignment = {};     ///< By slot of the file table.
  };

  /// Fails with the errno of io_uring_setup() where io_uring is not available.
  static Result<std::unique_ptr<TransferRing>> create(const Options& options);
  ~TransferRing();
  TransferRing(const TransferRing&) = delete;
  TransferRing& operator=(const TransferRing&) = delete;

  /// Slots of the file table: fewer than asked for where the limit of open files is lower.
  std::uint32_t files_max() const noexcept { return static_cast<std::uint32_t>(files_.size()); }
  /// `fd` of -1 empties the slot. No request to the slot is in flight.
  Status set_file(std::uint32_t slot, int fd) noexcept;

  /// As TransferQueue's.
  Status release_thread();
  void end_thread() noexcept;
  void submit(Request& request) noexcept;
  std::size_t reap(std::span<Request*> done) noexcept;
  void wait(std::uint64_t until_ns) noexcept;
  void wake() noexcept;

 private:
  TransferRing(const Options& options, EventFd wake_fd, std::unique_ptr<Uring> uring);

  void enter_thread() noexcept;
  Status replace_ring() noexcept;
  void feed() noexcept;
  void arm_wake() noexcept;
  void submit_to_kernel() noexcept;
  void note_enter_result(int result) noexcept;
  void collect() noexcept;
  void take(std::uint64_t user_data, std::int32_t result) noexcept;
  void break_down(int sys_errno) noexcept;
  void fail_pending() noexcept;

  const std::uint32_t depth_;
  const Alignment alignment_;

  // Synchronise themselves.
  EventFd wake_fd_;  // Only ends the kernel's wait; woken_ is the state that counts.
  std::atomic<bool> woken_ = false;

  // For the driving thread.
  std::unique_ptr<Uring> uring_;
  std::vector<int> files_;    // Descriptors by slot, for a ring that replaces this one; -1: none.
  std::uint64_t driver_ = 0;  // Number of the thread that enabled the ring; 0: none yet.
  RequestQueue pending_;      // Not in the kernel.
  RequestQueue done_;         // Ended, and not returned.
  std::uint64_t on_ring_ = 0;
  bool is_wake_armed_ = false;
  int broken_errno_ = 0;  // The ring is useless.
};

}  // namespace larder::io
