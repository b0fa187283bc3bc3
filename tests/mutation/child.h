#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "larder/base/unique_fd.h"

namespace larder::mutation {

/// What became of a process that was watched.
struct ChildEnd {
  bool was_killed = false;  ///< By the watch: it said nothing for too long.
  int exit_code = -1;       ///< -1: it died of a signal.
  int signal = 0;
  std::uint64_t seed = 0;  ///< The last that it began.
  std::string last_words;  ///< Its last line that tells of a failure.
};

/// Code that may crash or hang, in a process of its own; what it prints is read by this one.
///
/// Lines "seed N" are progress. The process is killed when none comes for `patience_ms`.
class Child {
 public:
  /// Forks. `body` runs in the child and returns its exit code.
  static Child run(const std::function<int()>& body, int patience_ms);
  /// Starts a program with an addition to its environment.
  static Child exec(const std::vector<std::string>& command, const std::string& variable,
                    int patience_ms);

  /// Reads what there is, or waits a moment for more. True once it has ended.
  bool look();
  const ChildEnd& end() const noexcept { return end_; }

 private:
  Child(pid_t pid, UniqueFd output, int patience_ms);
  bool read_some();
  void take_line(const std::string& line);
  void bury();

  pid_t pid_ = 0;
  UniqueFd output_;
  int patience_ms_ = 0;
  int quiet_ms_ = 0;
  bool is_over_ = false;
  std::string text_;
  ChildEnd end_;
};

}  // namespace larder::mutation
