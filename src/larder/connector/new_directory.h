#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "larder/base/result.h"

namespace larder {

/// The directories that one open made, so that a refused one leaves none behind.
///
/// Ownership: none; the directories stay unless undo() is called. Threads: one.
class NewDirectories {
 public:
  /// Makes `path` and the missing directories above it, each with exactly `mode`, whatever the
  /// umask. With `may_create` false (create=no) a missing one is an error instead. `name` is how
  /// messages begin: "log: path=/data/kv". On an error it removes the directories that it has made.
  static SetupResult<NewDirectories> make(const std::string& name, const std::string& path,
                                          mode_t mode, bool may_create);

  /// Outermost first; empty: all of it was there.
  const std::vector<std::string>& made() const noexcept { return made_; }
  /// Removes the directories that make() made, as far as they are empty.
  void undo() noexcept;

 private:
  std::vector<std::string> made_;
};

}  // namespace larder
