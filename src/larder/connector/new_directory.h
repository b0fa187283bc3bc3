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
  /// Makes `path` and what is missing above it, each with exactly `mode`, whatever the umask. With
  /// `may_create` false (create=no) a missing one is an error instead. `name` is how messages
  /// begin: "log: path=/data/kv". What was made until then is gone again where this fails.
  static SetupResult<NewDirectories> make(const std::string& name, const std::string& path,
                                          mode_t mode, bool may_create);

  /// Outermost first; empty: all of it was there.
  const std::vector<std::string>& made() const noexcept { return made_; }
  /// Removes what make() made, as far as it is empty.
  void undo() noexcept;

 private:
  std::vector<std::string> made_;
};

}  // namespace larder
