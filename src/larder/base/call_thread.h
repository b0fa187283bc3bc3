#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "larder/base/clock.h"
#include "larder/base/result.h"
#include "larder/base/thread.h"

namespace larder {

/// A thread for calls that may never end (into a file system, the system's resolver), one at a
/// time, for an owner that may stop waiting for them. The only way in which larder leaves a thread
/// to itself.
///
/// A call of which the owner gave up waiting runs on, and its thread ends with it. So a call owns
/// everything it uses, or shares it, and its function is destroyed in the thread.
///
/// States. A transition that is not listed does not exist:
///   kIdle -> kPosted        owner: begin()
///   kPosted -> kRunning     thread: takes the call
///   kPosted -> kIdle        owner: give_up(); nothing happened
///   kRunning -> kEnded      thread: the call has returned
///   kRunning -> kAbandoned  owner: give_up(); the thread is on its own
///   kEnded -> kIdle         owner: wait() or give_up()
///   kIdle -> kEnding        owner: destructor
///
/// Threads: the owner's, one at a time, but interrupt() from any.
/// Cost: two thread switches a call, and one allocation where the function needs it.
class CallThread {
 public:
  struct Call {
    std::function<void()> run;  ///< Must not throw.
    /// Runs in the thread before wait() can see the end. Must not throw, nor use this object.
    std::function<void(bool was_abandoned)> on_end = [](bool) {};
  };
  enum class GivenUp : std::uint8_t {
    kHadEnded = 0,  ///< It ended meanwhile; its result is there, the thread idle.
    kNotBegun,      ///< It never will; the thread is idle.
    kRunning,       ///< It runs on; this object can only be destroyed.
  };

  /// `before_look` is for tests: in the thread, each time before it looks for a call.
  static Result<std::unique_ptr<CallThread>> start(
      std::string_view name, std::function<void()> before_look = [] {});
  /// Gives up the present call, if any.
  ~CallThread();
  CallThread(const CallThread&) = delete;
  CallThread& operator=(const CallThread&) = delete;

  /// When idle.
  void begin(Call call);
  /// True: the call has ended, and the thread is idle again. False: it has not at `until_ns`, or at
  /// an interrupt().
  bool wait(std::uint64_t until_ns, const Clock& clock = RealClock::instance());
  bool has_ended() { return wait(0); }
  /// Gives up the call in progress. `if_running` is called before the thread is left to itself, and
  /// so before the call can end as an abandoned one.
  GivenUp give_up(const std::function<void()>& if_running = [] {});
  /// Lets a wait() return: the present one, else the next.
  void interrupt() noexcept;

 private:
  struct Shared;

  CallThread(std::shared_ptr<Shared> shared, Thread thread);
  static void run(Shared& shared);

  const std::shared_ptr<Shared> shared_;
  Thread thread_;
};

}  // namespace larder
