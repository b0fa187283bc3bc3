#pragma once

#include <functional>
#include <string_view>
#include <thread>

#include "larder/base/result.h"

namespace larder {

/// A thread that its owner joins: by join(), by the destructor, or when another one is moved in.
/// The owner tells it to end first; this class cannot. Movable, not copyable. Threads: one at a
/// time.
///
/// Signals are blocked in it, so that the application's handlers run in the application's threads;
/// SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP are not, because a thread that raises one must reach
/// the crash handler.
class Thread {
 public:
  Thread() noexcept = default;
  ~Thread() { join(); }
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&& other) noexcept;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  /// Runs `body`, which must not throw, in a new thread that tools show under the first 15 bytes of
  /// `name`. Fails with kResourceExhausted or kUnavailable when the system gives no thread.
  static Result<Thread> start(std::string_view name, std::function<void()> body);

  /// Waits for the end; does nothing when there is no thread to wait for. Must not be called from
  /// the thread itself.
  void join();
  bool joinable() const noexcept { return thread_.joinable(); }
  /// Lets it run on alone: only CallThread does.
  void detach() { thread_.detach(); }

 private:
  explicit Thread(std::thread thread) noexcept : thread_(std::move(thread)) {}

  std::thread thread_;
};

}  // namespace larder
