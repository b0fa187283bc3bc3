#include "larder/io/direct_io.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::io {

namespace {

constexpr std::uint64_t kXfsMagic = 0x58465342;
constexpr std::uint64_t kZfsMagic = 0x2FC12FC1;
constexpr std::uint64_t kBcachefsMagic = 0xCA451A4E;
constexpr std::uint64_t kLustreMagic = 0x0BD00BD0;
constexpr std::uint64_t kCephMagic = 0x00C36400;
constexpr std::uint64_t kFuseMagic = 0x65735546;
constexpr std::uint64_t kSmb2Magic = 0xFE534D42;
constexpr std::uint64_t kGpfsMagic = 0x47504653;

constexpr std::size_t kProbeBytes = 8192;
constexpr std::size_t kPageBytes = 4096;

std::string text_of_errno(int sys_errno) {
  return errno_text(sys_errno);
}

/// A file that no other process sees; it is removed when it is closed.
UniqueFd open_scratch_file(int directory_fd, int flags) {
  constexpr mode_t kMode = 0600;
  UniqueFd fd{::openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, kMode)};
  if (fd || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) return fd;
  // The file system has no nameless files: use a name for a moment that is unlikely to be taken.
  Random random{static_cast<std::uint64_t>(::getpid()) * RealClock::instance().now_ns()};
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%s%016llx", kScratchFilePrefix.data(),
                static_cast<unsigned long long>(random.next()));
  fd.reset(::openat(directory_fd, name.data(),
                    O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, kMode));
  if (fd) ::unlinkat(directory_fd, name.data(), 0);
  return fd;
}

/// Nothing where kernel or headers are too old to tell; offset 0 where direct I/O is impossible.
std::optional<Alignment> alignment_by_statx([[maybe_unused]] int fd) {
#ifdef STATX_DIOALIGN
  struct statx status{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0) return std::nullopt;
  if ((status.stx_mask & STATX_DIOALIGN) == 0) return std::nullopt;
  return Alignment{status.stx_dio_mem_align, status.stx_dio_offset_align};
#else
  return std::nullopt;
#endif
}

/// The smaller of 512 and 4096 with which reads of written blocks succeed; empty if neither does.
std::optional<Alignment> alignment_by_trying(int fd) {
  auto buffer = AlignedBuffer::create(kProbeBytes, kPageBytes);
  if (!buffer) return std::nullopt;
  // Reads of blocks that were never written prove nothing: they succeed at any alignment, without
  // the device.
  if (::pwrite(fd, buffer->data(), kProbeBytes, 0) != static_cast<ssize_t>(kProbeBytes)) {
    return std::nullopt;
  }
  for (const std::uint32_t bytes : {512U, 4096U}) {
    if (::pread(fd, buffer->data() + bytes, bytes, bytes) == static_cast<ssize_t>(bytes)) {
      return Alignment{bytes, bytes};
    }
  }
  return std::nullopt;
}

bool lives_in_memory(int fd) {
  struct statfs status{};
  if (::fstatfs(fd, &status) != 0) return false;
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

}  // namespace

DirectIoSupport probe_direct_io(int directory_fd) {
  // Recent kernels accept O_DIRECT on a tmpfs and then ignore it.
  if (lives_in_memory(directory_fd)) return {false, "the file system lives in memory", {}};
  const UniqueFd fd = open_scratch_file(directory_fd, O_DIRECT);
  if (!fd) return {false, "opening a file with O_DIRECT: " + text_of_errno(errno), {}};
  auto alignment = alignment_by_statx(fd.get());
  if (!alignment) alignment = alignment_by_trying(fd.get());
  if (!alignment) return {false, "reads with O_DIRECT fail", {}};
  if (alignment->offset == 0) return {false, "the file system says that it has no direct I/O", {}};
  if (alignment->memory == 0) alignment->memory = 1;
  return {true, "", *alignment};
}

Status probe_allocation(int directory_fd) {
  const UniqueFd fd = open_scratch_file(directory_fd, 0);
  if (!fd) return Error::from_errno(errno, "io", "making a scratch file");
  if (::fallocate(fd.get(), 0, 0, kProbeBytes) != 0) {
    return Error::from_errno(errno, "io", "allocating a scratch file");
  }
  return {};
}

std::string file_system_name(std::uint64_t magic) {
  constexpr std::array<std::pair<std::uint64_t, const char*>, 15> kNames{{
      {EXT4_SUPER_MAGIC, "ext4"},
      {kXfsMagic, "xfs"},
      {BTRFS_SUPER_MAGIC, "btrfs"},
      {TMPFS_MAGIC, "tmpfs"},
      {RAMFS_MAGIC, "ramfs"},
      {OVERLAYFS_SUPER_MAGIC, "overlay"},
      {NFS_SUPER_MAGIC, "nfs"},
      {F2FS_SUPER_MAGIC, "f2fs"},
      {kZfsMagic, "zfs"},
      {kBcachefsMagic, "bcachefs"},
      {kLustreMagic, "lustre"},
      {kCephMagic, "ceph"},
      {kFuseMagic, "fuse"},
      {kSmb2Magic, "smb2"},
      {kGpfsMagic, "gpfs"},
  }};
  for (const auto& [number, name] : kNames) {
    if (number == magic) return name;
  }
  std::array<char, 24> hex{};
  std::snprintf(hex.data(), hex.size(), "0x%llx", static_cast<unsigned long long>(magic));
  return hex.data();
}

}  // namespace larder::io
