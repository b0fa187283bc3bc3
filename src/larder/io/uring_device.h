#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "larder/io/device.h"
#include "larder/io/posix_directory.h"
#include "larder/io/transfer_ring.h"

namespace larder::io {

/// Device over io_uring. Every open file stands in the ring's file table, so that a lock on one
/// outlives a killed process until the ring's last request has ended. Threads and cost: as
/// TransferRing says.
class UringDevice final : public Device {
 public:
  /// Fails with the errno of io_uring_setup() where there is no io_uring to be had. Moves
  /// `directory` into the device, but only when it succeeds.
  static Result<std::unique_ptr<UringDevice>> create(const DeviceOptions& options,
                                                     PosixDirectory& directory);
  ~UringDevice() override = default;
  UringDevice(const UringDevice&) = delete;
  UringDevice& operator=(const UringDevice&) = delete;

  Result<std::vector<FileInfo>> list() override { return directory_.list(); }
  Result<FileId> open(std::string_view name, OpenMode mode) override;
  void close(FileId file) noexcept override;
  Result<FileInfo> info(FileId file) override { return directory_.info(file); }
  Status allocate(FileId file, std::uint64_t bytes) override {
    return directory_.allocate(file, bytes);
  }
  Result<FileInfo> look_for(std::string_view name) override { return directory_.look_for(name); }
  Status make(std::string_view name, std::uint64_t bytes) override {
    return directory_.make(name, bytes);
  }
  Status remove(std::string_view name) override { return directory_.remove(name); }
  Status sync_directory() override { return directory_.sync_directory(); }
  Result<Space> space() override { return directory_.space(); }
  Result<bool> shares_blocks(std::string_view name) override {
    return directory_.shares_blocks(name);
  }
  Status lock(FileId file, std::uint64_t deadline_ns) override {
    return directory_.lock(file, deadline_ns);
  }

  Status release_thread() override { return ring_->release_thread(); }
  void end_thread() noexcept override { ring_->end_thread(); }

  void submit(Request& request) noexcept override;
  std::size_t reap(std::span<Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override { ring_->wait(until_ns); }
  void wake() noexcept override { ring_->wake(); }

  const DeviceInfo& device_info() const noexcept override { return info_; }

 private:
  UringDevice(PosixDirectory&& directory, std::unique_ptr<TransferRing> ring);

  DeviceInfo info_;
  PosixDirectory directory_;
  std::unique_ptr<TransferRing> ring_;  // Last: the kernel lets go before a lock does.
};

}  // namespace larder::io
