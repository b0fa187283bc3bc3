#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "larder/base/mutex.h"
#include "larder/connector/reactor.h"
#include "larder/connectors/log/machine/path.h"
#include "larder/io/device.h"

namespace larder::log_store {

/// A LogPath and its device as a reactor drives them, and the way of scans to it.
///
/// Ownership: owns device, path and reactor. Only the reactor's thread touches path and device,
///   except where LogPath allows any thread.
/// Threads: scan() from any; start() and stop() from one at a time.
class LogMachine final : private Machine {
 public:
  /// The path was opened over the device.
  LogMachine(io::Device device, std::unique_ptr<LogPath> path);
  ~LogMachine() override;
  LogMachine(const LogMachine&) = delete;
  LogMachine& operator=(const LogMachine&) = delete;

  Status start() { return reactor_.start(); }
  /// As Reactor's. The path is closed when it is OK.
  Status stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);
  /// Waits for the path to list a page.
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) LARDER_EXCLUDES(mutex_);

  LogPath& path() noexcept { return *path_; }
  const LogPath& path() const noexcept { return *path_; }
  const io::Device& device() const noexcept { return device_; }

 private:
  struct Scan;

  void turn() noexcept override LARDER_EXCLUDES(mutex_);
  std::uint64_t next_timer_ns() const noexcept override { return path_->next_timer_ns(); }
  void wait(std::uint64_t until_ns) noexcept override { device_.queue->wait(until_ns); }
  void wake() noexcept override { device_.queue->wake(); }
  void begin_stop() noexcept override { path_->begin_stop(); }
  bool is_idle() const noexcept override { return path_->is_idle(); }
  void close() noexcept override;
  void note_blocked() noexcept override { path_->note_blocked(); }
  void note_unblocked() noexcept override { path_->note_unblocked(); }

  const io::Device device_;
  const std::unique_ptr<LogPath> path_;
  std::atomic<bool> has_scans_ = false;
  Mutex mutex_;
  std::deque<ScanTask*> scans_ LARDER_GUARDED_BY(mutex_);
  bool takes_scans_ LARDER_GUARDED_BY(mutex_) = true;
  Reactor reactor_;  // Last: its thread uses the others.
};

}  // namespace larder::log_store
