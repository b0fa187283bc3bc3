#include "larder/connectors/log/private_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "larder/base/result.h"
#include "larder/base/size_text.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/log/format/file_names.h"

namespace larder::log_store {
namespace {

constexpr mode_t kOthers = 077;

enum class Mode : std::uint8_t { kPrivate, kWasOpen, kStaysOpen };

Mode make_private(const std::filesystem::path& path, int& sys_errno) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return Mode::kPrivate;
  if ((status.st_mode & kOthers) == 0) return Mode::kPrivate;
  if (::fchmod(fd.get(), status.st_mode & 0700U) == 0) return Mode::kWasOpen;
  sys_errno = errno;
  return Mode::kStaysOpen;
}

}  // namespace

std::string make_files_private(const std::string& directory) {
  std::uint64_t changed = 0;
  std::uint64_t left = 0;
  int sys_errno = 0;
  std::error_code error;
  for (auto at = std::filesystem::directory_iterator{directory, error};
       !error && at != std::filesystem::directory_iterator{}; at.increment(error)) {
    const std::string name = at->path().filename();
    if (name != kSuperblockFileName && !segment_of_file_name(name)) continue;
    const Mode mode = make_private(at->path(), sys_errno);
    changed += mode == Mode::kWasOpen ? 1 : 0;
    left += mode == Mode::kStaysOpen ? 1 : 0;
  }
  if (left > 0) {
    return "others may use " + format_count(left, "file") +
           " of the store, the secret of the superblock or the values, and that cannot be changed "
           "(" +
           errno_text(sys_errno) + "): chmod go= them as their owner";
  }
  if (changed > 0) {
    return "others could use " + format_count(changed, "file") +
           " of the store, the secret of the superblock or the values; their modes are 0600 now";
  }
  return {};
}

}  // namespace larder::log_store
