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
/// Some file systems make who submits a transfer wait for their own disk. A second thread watches
/// for that: when the first has been kept for `stall` (a second at least), the path is down, and
/// what waits for it, but for what it has begun, is answered without it. What the kernel has comes
/// back when it ends.
///
/// Ownership: owns device, path and thread. The path and the device are touched by the reactor's
///   thread only, but for what LogPath allows to any.
/// Threads: submit(), note_cancel() and scan() from any; stop() from one at a time.
/// Cost: submit() is one compare-and-swap, and a system call only when the reactor sleeps; a turn
///   is one exchange more than the path's.
class Reactor {
 public:
  /// The path was opened over the device with `sink`.
  Reactor(io::Device device, std::unique_ptr<LogPath> path);
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

  /// Batches that were answered while the path's thread was kept by the kernel; the path counts
  /// the others.
  std::uint64_t answered_as_down() const noexcept {
    return answered_as_down_.load(std::memory_order_relaxed);
  }
  const LogPath& path() const noexcept { return *path_; }
  const io::Device& device() const noexcept { return device_; }

 private:
  struct Scan;
  void run() noexcept;
  bool turn(bool& is_stopping, std::uint64_t& until_ns) noexcept LARDER_EXCLUDES(mutex_);
  Batch* take_inbox_in_order() noexcept;
  bool has_inbox() const noexcept;
  void wake() noexcept;
  void watch() noexcept LARDER_EXCLUDES(mutex_);
  void answer_as_down() noexcept;

  const io::Device device_;
  const std::unique_ptr<LogPath> path_;

  std::atomic<Batch*> inbox_ = nullptr;  ///< A stack through Batch::connector_next.
  std::atomic<bool> is_asleep_ = false;
  std::atomic<std::uint32_t> submitters_ = 0;  ///< Threads inside submit(): the end waits for them.
  std::atomic<bool> is_stop_wanted_ = false;
  std::atomic<bool> has_scans_ = false;

  // Apart from what submitters and the path write all the time.
  alignas(64) std::atomic<bool> is_kept_ = false;  ///< What submitters see of path_->is_blocked().
  std::atomic<std::uint64_t> answered_as_down_ = 0;
  alignas(64) std::atomic<std::uint64_t> turns_ = 0;  ///< For the watcher: the thread goes on.
  /// Who has it may touch the path: its thread in a turn, or the watcher while that is blocked. It
  /// is free while the thread is where the kernel may keep it.
  std::atomic<bool> is_in_use_ = false;

  alignas(64) Mutex mutex_;
  CondVar changed_;
  std::deque<ScanTask*> scans_ LARDER_GUARDED_BY(mutex_);
  bool takes_scans_ LARDER_GUARDED_BY(mutex_) = false;
  bool has_ended_ LARDER_GUARDED_BY(mutex_) = false;
  CondVar over_;
  bool is_watch_over_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
  Thread watcher_;
};

}  // namespace larder::log_store
