#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/base/thread.h"
#include "larder/connector/completion_queue.h"
#include "larder/connectors/log/path.h"
#include "larder/io/device.h"

namespace larder::log_store {

/// Drives one LogPath on a thread of its own, and carries batches to it from any thread.
///
/// Ownership: owns device, path and thread. The path and the device are touched by the reactor's
///   thread only, but for what LogPath allows to any.
/// Threads: submit(), note_cancel() and scan() from any; stop() from one at a time.
/// Cost: submit() is one compare-and-swap, and a system call only when the reactor sleeps.
class Reactor {
 public:
  /// The path was opened over the device with `sink`.
  Reactor(std::unique_ptr<io::Device> device, std::unique_ptr<LogPath> path);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  Status start();
  /// kCancelled once stop() was called: the batch is untouched.
  Status submit(Batch& batch) noexcept;
  void note_cancel() noexcept;
  /// Waits for the path to list a page.
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max);
  /// Cancels what is queued, waits for what the kernel has, closes the path. kUnavailable when that
  /// did not end by `deadline_ns`; may be called again.
  Status stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);

  const LogPath& path() const noexcept { return *path_; }
  const io::Device& device() const noexcept { return *device_; }

 private:
  struct Scan;
  void run() noexcept;
  bool take_inbox() noexcept;
  bool has_inbox() const noexcept;
  void wake() noexcept;

  const std::unique_ptr<io::Device> device_;
  const std::unique_ptr<LogPath> path_;

  std::atomic<Batch*> inbox_ = nullptr;  ///< A stack through Batch::connector_next.
  std::atomic<bool> is_asleep_ = false;
  std::atomic<std::uint32_t> submitters_ = 0;  ///< Threads inside submit(): the end waits for them.
  std::atomic<bool> is_stop_wanted_ = false;
  std::atomic<bool> has_scans_ = false;

  Mutex mutex_;
  CondVar changed_;
  std::deque<ScanTask*> scans_ LARDER_GUARDED_BY(mutex_);
  bool takes_scans_ LARDER_GUARDED_BY(mutex_) = false;
  bool has_ended_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::log_store
