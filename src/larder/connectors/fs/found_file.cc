#include "larder/connectors/fs/found_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/padding.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";

}  // namespace

bool means_absent(int sys_errno) noexcept {
  return sys_errno == ENOENT || sys_errno == ENOTDIR || sys_errno == ESTALE;
}

FoundFile found_of(const struct stat& status) noexcept {
  constexpr std::uint64_t kStatBlock = 512;
  FoundFile found;
  found.is_there = true;
  found.is_regular = S_ISREG(status.st_mode);
  found.is_directory = S_ISDIR(status.st_mode);
  found.file_bytes = static_cast<std::uint64_t>(status.st_size);
  found.bytes = found.file_bytes;
  found.blocks_bytes = static_cast<std::uint64_t>(status.st_blocks) * kStatBlock;
  found.modified_seconds = status.st_mtim.tv_sec;
  return found;
}

Error unknown_size(const FoundFile& found) noexcept {
  return Error::from_errno(found.size_errno, kWhere, "reading how long a value is");
}

Result<FoundFile> look(const Directory& directory, const std::string& name,
                       const FsOptions& options) {
  const auto folder = Folder::find(directory, name, options, false);
  if (!folder) {
    if (means_absent(folder.error().sys_errno())) return FoundFile{};
    return folder.error();
  }
  return look_in(folder->fd(), name.c_str());
}

Result<FoundFile> look_in(int folder_fd, const char* name) {
  struct stat status{};
  if (::fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (means_absent(errno)) return FoundFile{};
    return Error::from_errno(errno, kWhere, "looking for a file");
  }
  FoundFile found = found_of(status);
  if (found.is_regular && may_have_trailer(found.file_bytes)) {
    const UniqueFd fd{::openat(folder_fd, name, kOpenValue)};
    // It may have been deleted, or replaced by another file, since it was looked at.
    if (!fd && means_absent(errno)) return FoundFile{};
    if (!fd || ::fstat(fd.get(), &status) != 0) {
      found.size_errno = errno;
      return found;
    }
    found = found_of(status);
    const auto bytes = value_bytes_in(fd.get(), found.file_bytes);
    if (bytes) found.bytes = *bytes;
    if (!bytes) found.size_errno = bytes.error().sys_errno();
  }
  return found;
}

}  // namespace larder::fs
