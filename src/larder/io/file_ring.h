#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "larder/base/result.h"
#include "larder/io/device.h"
#include "larder/io/request_queue.h"

namespace larder::io {

class Uring;

/// Transfers of one thread with files that it opens and closes itself, over an io_uring of its own:
/// for many short-lived files, where a Device is for few that stay open.
///
/// Request::file is the descriptor, which must stay open until the request came back. Requests end
/// as those of a Device do, in any order. submit() has no limit of its own; the kernel has at most
/// `depth` at once.
/// Threads: the one that made it, but the destructor, which waits for the kernel, from any.
/// Ownership: the ring; nothing of a request. Cost: one system call for each reap() or wait().
class FileRing {
 public:
  static Result<std::unique_ptr<FileRing>> create(std::uint32_t depth, const Alignment& alignment);
  ~FileRing();
  FileRing(const FileRing&) = delete;
  FileRing& operator=(const FileRing&) = delete;

  void submit(Request& request) noexcept;
  /// Hands what was submitted to the kernel and takes what has ended. Never waits.
  std::size_t reap(std::span<Request*> done) noexcept;
  /// The same, but waits until at least one has ended. Only while something is in flight.
  std::size_t wait(std::span<Request*> done) noexcept;
  /// Submitted and not given back.
  std::uint64_t in_flight() const noexcept { return in_flight_; }

 private:
  FileRing(std::unique_ptr<Uring> uring, std::uint32_t depth, const Alignment& alignment) noexcept;
  void feed() noexcept;
  void collect() noexcept;
  void note_enter_result(int result) noexcept;
  std::size_t give_back(std::span<Request*> done) noexcept;

  std::unique_ptr<Uring> uring_;
  const std::uint32_t depth_;
  const Alignment alignment_;
  RequestQueue pending_;  ///< Not yet on the ring.
  RequestQueue done_;     ///< Ended and not given back.
  std::uint64_t on_ring_ = 0;
  std::uint64_t in_flight_ = 0;
  int broken_errno_ = 0;  ///< The ring stopped working: everything fails so.
};

/// Whether new files should go over io_uring: not when the environment says LARDER_IO=threads, an
/// error when it says LARDER_IO=uring and io_uring is not to be had. `why_not` says why not.
struct RingChoice {
  bool has_ring = false;
  std::string why_not;
};
SetupResult<RingChoice> choose_ring();

/// A blocking transfer in this thread: preadv() or pwritev() until it ended as a Device's requests
/// do. Request::file is the descriptor.
void transfer_here(Request& request, const Alignment& alignment) noexcept;

}  // namespace larder::io
