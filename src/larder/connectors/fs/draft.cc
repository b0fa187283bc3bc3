#include "larder/connectors/fs/draft.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "larder/connectors/fs/file_name.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";

}  // namespace

Draft::Draft(int folder_fd, bool is_direct) : folder_fd_(folder_fd), is_direct_(is_direct) {}

Result<Draft> Draft::create(const Directory& directory, mode_t mode, bool is_direct, Kind kind) {
  Draft draft{directory.temporary_fd(), is_direct};
  const int flags = O_WRONLY | O_CLOEXEC | (is_direct ? O_DIRECT : 0);
  if (kind == Kind::kUnnamed) {
    draft.fd_.reset(::openat(draft.folder_fd_, ".", flags | O_TMPFILE, mode));
    if (draft.fd_) return draft;  // The error of the other attempt is the more useful one.
  }
  draft.name_ = temporary_name();
  draft.fd_.reset(
      ::openat(draft.folder_fd_, draft.name_.c_str(), flags | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  if (!draft.fd_) {
    const int failed = errno;
    // Where O_DIRECT is refused, the file may have been created all the same.
    if (failed == EINVAL) ::unlinkat(draft.folder_fd_, draft.name_.c_str(), 0);
    return Error::from_errno(failed, kWhere, "creating a file");
  }
  draft.has_name_ = true;
  return draft;
}

bool Draft::can_be_unnamed(const Directory& directory) noexcept {
  UniqueFd fd{::openat(directory.temporary_fd(), ".", O_WRONLY | O_CLOEXEC | O_TMPFILE, 0600)};
  if (!fd) return false;
  Draft draft{directory.temporary_fd(), false};
  draft.name_ = temporary_name();
  draft.fd_ = std::move(fd);
  draft.has_name_ = draft.link_to(draft.folder_fd_, draft.name_).has_value();
  return draft.has_name_;
}

Draft::~Draft() {
  if (has_name_) ::unlinkat(folder_fd_, name_.c_str(), 0);
}

Draft::Draft(Draft&& other) noexcept
    : folder_fd_(other.folder_fd_),
      is_direct_(other.is_direct_),
      name_(std::move(other.name_)),
      fd_(std::move(other.fd_)),
      has_name_(std::exchange(other.has_name_, false)) {}

Status Draft::link_to(int folder_fd, const std::string& name) noexcept {
  // Linking by descriptor alone (AT_EMPTY_PATH) needs a capability before Linux 6.10.
  const std::string path = "/proc/self/fd/" + std::to_string(fd_.get());
  if (::linkat(AT_FDCWD, path.c_str(), folder_fd, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return {};
  return Error::from_errno(errno, kWhere, "publishing a file");
}

Status Draft::finish() noexcept {
  // An unnamed file would be lost.
  if (!has_name_ || ::close(fd_.release()) == 0 || errno == EINTR) return {};
  return Error::from_errno(errno, kWhere, "closing a written file");
}

Status Draft::publish(int folder_fd, const std::string& name, bool replace,
                      bool is_taken) noexcept {
  if (!has_name_) {
    if (!is_taken) return link_to(folder_fd, name);
    // No call puts a file without a name in another's place.
    name_ = temporary_name();
    LARDER_TRY(link_to(folder_fd_, name_));
    has_name_ = true;
  }
  LARDER_TRY(publish_file(folder_fd_, name_, folder_fd, name, replace || is_taken));
  has_name_ = false;
  return {};
}

}  // namespace larder::fs
