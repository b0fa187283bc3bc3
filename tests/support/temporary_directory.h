#pragma once

#include <string>

namespace larder::testing {

/// A new directory, 0700, that goes with everything in it when this object does. Aborts when it
/// cannot be made: there is no test without it.
class TemporaryDirectory {
 public:
  /// Below `parent`; by default below the system's directory for temporary files.
  explicit TemporaryDirectory(const std::string& parent = "");
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace larder::testing
