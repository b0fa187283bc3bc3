#include "larder/connectors/fs/checksum.h"

#include <endian.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>

namespace larder::fs {
namespace {

constexpr const char* kAttribute = "user.larder.checksum";
using Words = std::array<std::uint64_t, 3>;

}  // namespace

Status write_checksum(int fd, const ChecksumRecord& record) noexcept {
  const Words words{htole64(record.value_bytes), htole64(record.hash.low),
                    htole64(record.hash.high)};
  if (::fsetxattr(fd, kAttribute, words.data(), sizeof(words), 0) != 0) {
    return Error::from_errno(errno, "fs", "writing a checksum");
  }
  return {};
}

Result<std::optional<ChecksumRecord>> read_checksum(int fd) noexcept {
  Words words{};
  const ssize_t bytes = ::fgetxattr(fd, kAttribute, words.data(), sizeof(words));
  if (bytes == static_cast<ssize_t>(sizeof(words))) {
    return std::optional{ChecksumRecord{le64toh(words[0]), {le64toh(words[1]), le64toh(words[2])}}};
  }
  if (bytes >= 0 || errno == ENODATA || errno == ERANGE) return std::optional<ChecksumRecord>{};
  return Error::from_errno(errno, "fs", "reading a checksum");
}

}  // namespace larder::fs
