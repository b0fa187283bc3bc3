#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/file_name.h"

namespace larder::fs {

/// A file under a temporary name, open for writing; unlinked unless it was published. One thread.
class Draft {
 public:
  static Result<Draft> create(const Directory& directory, mode_t mode, bool is_direct) {
    Draft draft{directory.temporary_fd()};
    constexpr int kFlags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
    draft.fd_.reset(
        ::openat(draft.folder_fd_, draft.name_.c_str(), kFlags | (is_direct ? O_DIRECT : 0), mode));
    if (!draft.fd_) {
      const int failed = errno;
      // Where O_DIRECT is refused, the file may have been made all the same.
      if (failed == EINVAL) ::unlinkat(draft.folder_fd_, draft.name_.c_str(), 0);
      return Error::from_errno(failed, "fs", "creating a file");
    }
    draft.is_there_ = true;
    return draft;
  }
  ~Draft() {
    if (is_there_) ::unlinkat(folder_fd_, name_.c_str(), 0);
  }
  Draft(Draft&& other) noexcept
      : folder_fd_(other.folder_fd_),
        name_(std::move(other.name_)),
        fd_(std::move(other.fd_)),
        is_there_(std::exchange(other.is_there_, false)) {}
  Draft& operator=(Draft&&) = delete;
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  int fd() const noexcept { return fd_.get(); }
  /// Late write errors come here on network file systems.
  Status close() noexcept {
    if (::close(fd_.release()) != 0 && errno != EINTR) {
      return Error::from_errno(errno, "fs", "closing a written file");
    }
    return {};
  }
  Status publish(int folder_fd, const std::string& name, bool replace) noexcept {
    LARDER_TRY(publish_file(folder_fd_, name_, folder_fd, name, replace));
    is_there_ = false;
    return {};
  }

 private:
  explicit Draft(int folder_fd) : folder_fd_(folder_fd), name_(temporary_name()) {}

  int folder_fd_;
  std::string name_;
  UniqueFd fd_;
  bool is_there_ = false;
};

}  // namespace larder::fs
