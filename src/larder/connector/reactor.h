#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/thread.h"
#include "larder/connector/intake.h"

namespace larder {

/// A single-threaded state machine that works off an intake. A Reactor drives it in production, a
/// simulation under virtual time in tests; both call turn() and wait() in alternation.
///
/// Threads: one, but wake() and note_blocked() from any.
class Machine {
 public:
  virtual ~Machine() = default;

  /// Takes completions, works off the intake as far as there is room, and handles what is due. Must
  /// not wait for anything but the kernel's own calls.
  virtual void turn() noexcept = 0;
  /// When turn() has work although nothing happened; kNever when it has none.
  virtual std::uint64_t next_timer_ns() const noexcept = 0;
  /// Returns when something happened, when wake() was called since the last return, or at
  /// `until_ns`. May return early.
  virtual void wait(std::uint64_t until_ns) noexcept = 0;
  virtual void wake() noexcept = 0;

  /// The intake was stopped: the machine begins no work of its own any more, and ends what it can.
  virtual void begin_stop() noexcept = 0;
  /// Nothing is in flight.
  virtual bool is_idle() const noexcept = 0;
  /// The last call in the thread that drives it, after is_idle(). May block.
  virtual void close() noexcept = 0;

  /// The kernel has not let the thread go for so long that callers are answered without it.
  virtual void note_blocked() noexcept {}
  /// Called in its thread, which has ended that.
  virtual void note_unblocked() noexcept {}
};

/// How the thread is named and watched.
struct ReactorOptions {
  std::string name = "reactor";  ///< Name of the thread in tools such as top.
  /// How long the kernel may keep the thread; a second at least. 0: it is not watched.
  std::uint64_t stall_ns = 0;
};

/// A thread that drives a machine, and the way from the intake to it.
///
/// On some file systems submitting a write blocks on the disk (ext4 does for its journal). Where
/// that can happen a second thread watches: after `stall_ns` in the kernel the intake is down, and
/// answers queued and new batches, until the thread returns. I/O in the kernel completes when the
/// thread returns.
///
/// Ownership: machine and intake outlive it, and the machine is used by its thread only.
/// Threads: any, but start() and stop() from one at a time.
/// Cost: a submit is one exchange more than the intake's, and a system call only when the thread
///   sleeps.
class Reactor final : public IntakeOwner {
 public:
  Reactor(Machine& machine, Intake& intake, ReactorOptions options);
  /// Waits for what is in flight: see stop().
  ~Reactor() override;
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  Status start();
  /// There is something for the machine beside the intake.
  void notify() noexcept;
  /// Stops the intake, waits for what is in flight, and closes the machine. kUnavailable when that
  /// did not end by `deadline_ns`; may be called again.
  Status stop(std::uint64_t deadline_ns) noexcept LARDER_EXCLUDES(mutex_);

 private:
  void on_submitted(Op /*op*/) noexcept override { notify(); }
  void on_cancelled() noexcept override { notify(); }
  void run() noexcept LARDER_EXCLUDES(mutex_);
  void watch() noexcept LARDER_EXCLUDES(mutex_);

  Machine& machine_;
  Intake& intake_;
  const ReactorOptions options_;

  std::atomic<bool> has_news_ = false;  ///< Time since the last turn began.
  std::atomic<bool> is_asleep_ = false;
  std::atomic<bool> is_stop_wanted_ = false;
  std::atomic<bool> is_blocked_ = false;
  alignas(64) std::atomic<std::uint64_t> turns_ = 0;  ///< Tells the watcher that the thread runs.

  alignas(64) Mutex mutex_;
  CondVar changed_;
  bool is_watch_over_ LARDER_GUARDED_BY(mutex_) = false;
  bool has_ended_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
  Thread watcher_;
};

}  // namespace larder
