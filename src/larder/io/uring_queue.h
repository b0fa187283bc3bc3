#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "larder/io/device.h"
#include "larder/io/posix_queue.h"
#include "larder/io/transfer_ring.h"

namespace larder::io {

/// A queue over io_uring. Every open file is in the ring's file table, so that its lock outlives a
/// killed process until the ring's last request has ended. Threads and cost: as TransferRing says.
class UringQueue final : public PosixQueue {
 public:
  /// Fails with the errno of io_uring_setup() where io_uring is not available.
  static Result<std::unique_ptr<UringQueue>> create(const DeviceOptions& options,
                                                    const Alignment& alignment);

  void submit(Request& request) noexcept override;
  std::size_t reap(std::span<Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override { ring_->wait(until_ns); }
  void wake() noexcept override { ring_->wake(); }
  Status release_thread() override { return ring_->release_thread(); }
  void end_thread() noexcept override { ring_->end_thread(); }

 private:
  UringQueue(std::size_t files_max, std::unique_ptr<TransferRing> ring)
      : PosixQueue(files_max), ring_(std::move(ring)) {}

  Status attach(FileId file, int fd) override { return ring_->set_file(file, fd); }
  void detach(FileId file) noexcept override {
    ring_->set_file(file, -1).ignore("the next open() replaces it");
  }

  const std::unique_ptr<TransferRing>
      ring_;  // Destroyed before the files, once the kernel has released them.
};

}  // namespace larder::io
