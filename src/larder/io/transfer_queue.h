#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "larder/base/clock.h"
#include "larder/base/result.h"

namespace larder::io {

/// Number of an open file in its queue: from Directory::open() until Directory::close(). Small,
/// dense, then reused.
using FileId = std::uint32_t;

enum class Operation : std::uint8_t { kRead = 1, kWrite, kSync };

/// One transfer. Everything in it is the caller's, but the queue's from submit() until reap()
/// returns it; no allocation is made for it.
struct Request {
  Operation operation = Operation::kRead;
  FileId file = 0;
  std::uint64_t offset = 0;  ///< Bytes. Unused by kSync.
  std::span<iovec> buffers;  ///< Scattered memory, 1..kBuffersMax. The queue may change the
                             ///< array (not the bytes, for a write) while the request is in flight.
  void* user_data = nullptr;

  std::uint64_t bytes_done = 0;  ///< Out: length of the prefix that was transferred.
  int sys_errno = 0;  ///< Out: 0, or why it ended before its end. A read that meets the end
                      ///< of the file ends early with 0.

  std::uint64_t queue_words[4] = {};  ///< The queue's while the request is in flight.
  Request* queue_next = nullptr;      ///< The queue's while the request is in flight.
};

/// Scatter list limit of one request (IOV_MAX on Linux is 1024).
inline constexpr std::size_t kBuffersMax = 1024;

/// The alignment that direct I/O on a file needs. A power of two each; 1 when buffered.
struct Alignment {
  std::uint32_t memory = 1;  ///< Of every buffer's address.
  std::uint32_t offset = 1;  ///< Of file offsets and of every buffer's length.
};

/// The data plane of a device: moves bytes between memory and the files that its Directory has
/// open. Only wait() blocks.
///
/// Transfers: a request ends when all its bytes were moved, the file ended, or an error came. Short
///   transfers, EINTR and EAGAIN are handled inside. Requests end in any order, also those to one
///   place in a file. submit() has no limit of its own: requests that the kernel cannot take yet
///   wait inside, so the caller bounds their number.
/// Threads: one thread at a time drives a queue, and another one may take over only while no
///   request is in flight (the destructor excepted). wake() is for any thread at any time.
/// Ownership: the caller keeps requests and buffers alive until reap() returned them. The
///   destructor waits until the kernel has released every buffer, then closes the files that are
///   still open.
class TransferQueue {
 public:
  TransferQueue() = default;
  virtual ~TransferQueue() = default;
  TransferQueue(const TransferQueue&) = delete;
  TransferQueue& operator=(const TransferQueue&) = delete;

  virtual void submit(Request& request) noexcept = 0;
  /// Fills `done` with finished requests; returns how many. Never waits. Also hands submitted
  /// requests to the kernel: call it (or wait()) after a round of submit().
  virtual std::size_t reap(std::span<Request*> done) noexcept = 0;
  /// Returns when reap() has something to return, when wake() was called since the last return, or
  /// at `until_ns` (monotonic; kNever waits without limit). May return early.
  virtual void wait(std::uint64_t until_ns) noexcept = 0;
  /// Ends the present or the next wait(). Any thread.
  virtual void wake() noexcept = 0;

  /// The calling thread is done with the queue, and another one takes over. Acquires the resources
  /// for that, so that a lack (of descriptors, of memory) is an error here and does not stop the
  /// queue there. No request is in flight.
  virtual Status release_thread() { return {}; }
  /// The last call of the thread that drives the queue. If no request is in flight, the kernel
  /// keeps no file of the directory afterwards, so that its file system can be unmounted as soon as
  /// the device is destroyed.
  virtual void end_thread() noexcept {}
};

}  // namespace larder::io
