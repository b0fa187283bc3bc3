#include "larder/connector/new_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "larder/base/result.h"

namespace larder {
namespace {

SetupError refused(const std::string& name, const std::string& what, int sys_errno,
                   const std::string& remedy) {
  const bool is_forbidden = sys_errno == EACCES || sys_errno == EPERM || sys_errno == EROFS;
  return {is_forbidden ? ErrorCode::kUnavailable : Error::from_errno(sys_errno, "", "").code(),
          name + ": " + what + ": " + errno_text(sys_errno) + ": " + remedy};
}

/// The path and everything above it, outermost first, without "." parts and trailing slashes.
std::vector<std::string> levels_of(const std::string& path) {
  std::vector<std::string> levels;
  std::filesystem::path level;
  for (const std::filesystem::path& part : std::filesystem::path{path}) {
    if (part.empty() || part == ".") continue;
    level /= part;
    if (part != "/") levels.push_back(level.string());
  }
  return levels;
}

}  // namespace

SetupResult<NewDirectories> NewDirectories::make(const std::string& name, const std::string& path,
                                                 mode_t mode, bool may_create) {
  NewDirectories directories;
  for (const std::string& level : levels_of(path)) {
    struct stat status{};
    if (::stat(level.c_str(), &status) == 0) {
      if (S_ISDIR(status.st_mode)) continue;
      return SetupError{ErrorCode::kInvalidArgument,
                        name + ": " + level + " is not a directory: name a directory"};
    }
    if (errno != ENOENT) {
      const int failed = errno;
      directories.undo();
      return refused(name, "cannot look at " + level, failed,
                     "run as its owner, or name another directory");
    }
    if (!may_create) {
      return SetupError{ErrorCode::kUnavailable,
                        name + ": " + level +
                            " does not exist, and create=no: mount its disk, make it, or leave "
                            "create=no out"};
    }
    if (::mkdir(level.c_str(), mode) != 0) {
      if (errno == EEXIST) continue;  // Another process made it first.
      const int failed = errno;
      directories.undo();
      return refused(name, "cannot make the directory " + level, failed,
                     "run as its owner, or name another directory");
    }
    directories.made_.push_back(level);
    // The umask may have taken something away, from larder itself too.
    if (::chmod(level.c_str(), mode) != 0) {
      const int failed = errno;
      directories.undo();
      return refused(name, "cannot set the mode of " + level, failed, "name another directory");
    }
  }
  return directories;
}

void NewDirectories::undo() noexcept {
  while (!made_.empty()) {
    ::rmdir(made_.back().c_str());
    made_.pop_back();
  }
}

}  // namespace larder
