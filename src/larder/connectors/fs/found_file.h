#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/connectors/fs/directory.h"
#include "larder/connectors/fs/options.h"

namespace larder::fs {

/// Flags to open a value for reading. Does not wait for the other end, if the name is a pipe's.
inline constexpr int kOpenValue = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;

/// The kind of file that has a name.
struct FoundFile {
  bool is_there = false;
  bool is_regular = false;
  bool is_directory = false;
  std::uint64_t bytes = 0;       ///< Length of the value.
  std::uint64_t file_bytes = 0;  ///< More, where it is padded.
  int size_errno = 0;            ///< Why `bytes` is not known.
  std::uint64_t blocks_bytes = 0;
  std::int64_t modified_seconds = 0;

  /// No Get can take it.
  bool is_too_large() const noexcept { return bytes > kValueBytesMax; }
  /// A Set with kIfAbsent leaves it alone. A power cut can leave a file without content.
  bool is_value(std::uint64_t wanted_bytes) const noexcept {
    return is_regular && !is_too_large() && (bytes > 0 || wanted_bytes == 0);
  }
};
/// No file has the name, or its folder was removed meanwhile (network file systems report ESTALE).
bool means_absent(int sys_errno) noexcept;

FoundFile found_of(const struct stat& status) noexcept;
/// The file that has the name now, in its folder or in an open one.
Result<FoundFile> look(const Directory& directory, const std::string& name,
                       const FsOptions& options);
Result<FoundFile> look_in(int folder_fd, const char* name);
/// `found.size_errno` as an error.
Error unknown_size(const FoundFile& found) noexcept;

}  // namespace larder::fs
