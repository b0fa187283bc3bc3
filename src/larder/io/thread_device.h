#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/io/device.h"
#include "larder/io/posix_directory.h"
#include "larder/io/request_queue.h"

namespace larder::io {

/// Device over threads that call preadv(), pwritev() and fdatasync(): for systems without io_uring
/// and for tools that cannot look into it. `threads` requests run at a time (`depth` at most), the
/// others wait in a list that runs through the requests themselves.
///
/// Threads: as Device says, and it does not mind a change of threads at any time. Its workers touch
///   the two shared queues and the requests they took, nothing else.
/// Cost: reap() one lock; a request two locks and a wake-up on the side of the workers.
class ThreadDevice final : public Device {
 public:
  /// `degraded_why` says why it is not io_uring; it becomes part of device_info().
  static Result<std::unique_ptr<ThreadDevice>> create(const DeviceOptions& options,
                                                      PosixDirectory&& directory,
                                                      const std::string& degraded_why);
  ~ThreadDevice() override;
  ThreadDevice(const ThreadDevice&) = delete;
  ThreadDevice& operator=(const ThreadDevice&) = delete;

  Result<std::vector<FileInfo>> list() override { return directory_.list(); }
  Result<FileId> open(std::string_view name, OpenMode mode) override {
    return directory_.open_file(name, mode);
  }
  void close(FileId file) noexcept override { static_cast<void>(directory_.close(file)); }
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

  void submit(Request& request) noexcept override;
  std::size_t reap(std::span<Request*> done) noexcept override LARDER_EXCLUDES(mutex_);
  void wait(std::uint64_t until_ns) noexcept override LARDER_EXCLUDES(mutex_);
  void wake() noexcept override LARDER_EXCLUDES(mutex_);

  const DeviceInfo& device_info() const noexcept override { return info_; }

 private:
  ThreadDevice(PosixDirectory&& directory, const std::string& degraded_why);

  void work() noexcept LARDER_EXCLUDES(mutex_);
  void hand_over() noexcept LARDER_EXCLUDES(mutex_);

  // Constant after construction.
  DeviceInfo info_;

  // The driving thread's.
  PosixDirectory directory_;
  RequestQueue submitted_;  // Not yet seen by the workers.

  Mutex mutex_;
  CondVar work_arrived_;
  CondVar something_ended_;
  RequestQueue queue_ LARDER_GUARDED_BY(mutex_);
  RequestQueue done_ LARDER_GUARDED_BY(mutex_);
  bool is_woken_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_stopping_ LARDER_GUARDED_BY(mutex_) = false;

  std::vector<Thread> threads_;  // Last: they use what stands above.
};

}  // namespace larder::io
