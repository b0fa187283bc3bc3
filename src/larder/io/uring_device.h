#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "larder/base/event_fd.h"
#include "larder/io/device.h"
#include "larder/io/posix_directory.h"
#include "larder/io/request_queue.h"

namespace larder::io {

class Uring;

/// Device over io_uring: at most `depth` requests are with the kernel, the others wait in a list
/// that runs through the requests themselves, and nothing is allocated after create().
///
/// Every open file stands in the ring's file table, so that a lock on one outlives a killed process
///   until the ring's last request has ended.
/// Threads: as Device says. When another thread takes over, a ring that the kernel has tied to the
///   first one is replaced by a new one; that is why nothing may be in flight then. Should the
///   system refuse the new ring, every request ends with that errno.
/// Cost: submit() none; reap() one system call when something was submitted since the last one,
/// else
///   usually none; wait() one.
class UringDevice final : public Device {
 public:
  /// Fails with the errno of io_uring_setup() where there is no io_uring to be had. Moves
  /// `directory` into the device, but only when it succeeds.
  static Result<std::unique_ptr<UringDevice>> create(const DeviceOptions& options,
                                                     PosixDirectory& directory);
  ~UringDevice() override;
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

  Status release_thread() override;
  void end_thread() noexcept override;

  void submit(Request& request) noexcept override;
  std::size_t reap(std::span<Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override;

  const DeviceInfo& device_info() const noexcept override { return info_; }

 private:
  UringDevice(const DeviceOptions& options, PosixDirectory&& directory, EventFd wake_fd,
              std::unique_ptr<Uring> uring);

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

  // Constant after construction.
  const std::size_t depth_;
  const std::uint32_t files_max_;

  // Synchronise themselves.
  EventFd wake_fd_;  // Only ends the kernel's wait; woken_ is what counts.
  std::atomic<bool> woken_ = false;

  // The driving thread's.
  DeviceInfo info_;
  PosixDirectory directory_;
  std::unique_ptr<Uring> uring_;
  std::uint64_t driver_ = 0;  // Number of the thread that enabled the ring; 0: none yet.
  RequestQueue pending_;      // Not with the kernel.
  RequestQueue done_;
  std::size_t on_ring_ = 0;
  bool is_wake_armed_ = false;
  int broken_errno_ = 0;  // The ring is useless.
};

}  // namespace larder::io
