#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "larder/base/unique_fd.h"

namespace larder::testing {

/// A child that real fork() made. It does `work`, says what that returned, and then stays until
/// this goes, or kill().
class ForkedChild {
 public:
  /// `hold` is for stay(), in children that the child makes.
  explicit ForkedChild(const std::function<std::string(int hold)>& work = {});
  ~ForkedChild();
  ForkedChild(const ForkedChild&) = delete;
  ForkedChild& operator=(const ForkedChild&) = delete;

  ::pid_t pid() const noexcept { return pid_; }
  /// Waited for; "" when the child ended before it said anything.
  const std::string& said() const noexcept { return said_; }
  /// By SIGKILL. Returns when it has ended. Its children stay until this goes.
  void kill() noexcept;
  /// Waits until the ForkedChild that `hold` is of goes, and ends the process.
  [[noreturn]] static void stay(int hold) noexcept;
  /// Makes a child that stays. Returns once fork()'s handlers have run in it, before which it still
  /// has what they take away.
  static void fork_to_stay(int hold) noexcept;

 private:
  ::pid_t pid_ = -1;
  std::string said_;
  UniqueFd hold_;
};

}  // namespace larder::testing
