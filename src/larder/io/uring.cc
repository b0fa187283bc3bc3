#include "larder/io/uring.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "larder/io/transfer.h"

namespace larder::io {

namespace {

constexpr const char* kWhere = "io_uring";
/// Files beyond it are used by their descriptors.
constexpr std::uint32_t kTableSlotsMax = 1U << 16;
constexpr std::size_t kPlainBytesMax = std::size_t{1} << 30;  // An entry's length has 32 bits.

/// The best flags first; older kernels refuse unknown flags with EINVAL.
constexpr std::array<unsigned, 3> kSetupFlags{
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_R_DISABLED,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

std::uint32_t open_files_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return static_cast<std::uint32_t>(std::min<rlim_t>(limit.rlim_cur, 1U << 20));
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::create(unsigned entries, std::uint32_t files_max) {
  std::unique_ptr<Uring> uring{new Uring};  // The constructor is private.
  const NoFork no_fork;
  int result = -EINVAL;
  for (const unsigned flags : kSetupFlags) {
    uring->ring_ = {};
    result = ::io_uring_queue_init(entries, &uring->ring_, flags);
    if (result != -EINVAL) break;
  }
  if (result < 0) return Error::from_errno(result, kWhere, "setting up a ring");
  uring->has_ring_ = true;
  uring->guard_ = ForkGuard{uring->ring_.ring_fd};
  // The mappings would keep the ring as well.
  if (result = ::io_uring_ring_dontfork(&uring->ring_); result < 0) {
    return Error::from_errno(result, kWhere, "keeping a ring from children");
  }
  LARDER_TRY(uring->register_files(files_max));
  return uring;
}

Status Uring::register_files(std::uint32_t files_max) noexcept {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return Error::from_errno(errno, kWhere, "making a pipe");
  released_.reset(ends[0]);
  const UniqueFd held_by_kernel{ends[1]};
  const std::uint32_t slots = std::min({files_max + 1, open_files_limit(), kTableSlotsMax});
  if (const int result = ::io_uring_register_files_sparse(&ring_, slots); result < 0) {
    return Error::from_errno(result, kWhere, "registering a file table");
  }
  files_max_ = slots - 1;
  return set_file(files_max_, held_by_kernel.get());
}

Uring::~Uring() {
  if (!has_ring_) return;
  guard_ = {};
  ::io_uring_queue_exit(&ring_);
  if (in_flight_ == 0) return;
  pollfd hang_up{released_.get(), POLLIN, 0};
  while (::poll(&hang_up, 1, -1) < 0 && errno == EINTR) {
  }
}

Status Uring::enable() noexcept {
  if (!has_one_issuer()) return {};
  // Uses the system call itself: the shared liburing 2.3 declares io_uring_enable_rings() but does
  // not have it.
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) <
      0) {
    return Error::from_errno(errno, kWhere, "enabling a ring");
  }
  return {};
}

Status Uring::set_file(std::uint32_t slot, int fd) noexcept {
  if (const int result = ::io_uring_register_files_update(&ring_, slot, &fd, 1); result < 0) {
    return Error::from_errno(result, kWhere, "registering a file");
  }
  return {};
}

void Uring::release_files() noexcept {
  ::io_uring_unregister_files(&ring_);
}

void prepare_transfer(io_uring_sqe& entry, int file, Request& request) noexcept {
  if (request.operation == Operation::kSync) {
    ::io_uring_prep_fsync(&entry, file, IORING_FSYNC_DATASYNC);
  } else {
    const std::span<iovec> buffers = remaining_buffers(request);
    const std::uint64_t offset = request.offset + request.bytes_done;
    const auto count = static_cast<unsigned>(buffers.size());
    const bool is_read = request.operation == Operation::kRead;
    if (count == 1) {
      const auto bytes = static_cast<unsigned>(std::min(buffers[0].iov_len, kPlainBytesMax));
      if (is_read) {
        ::io_uring_prep_read(&entry, file, buffers[0].iov_base, bytes, offset);
      } else {
        ::io_uring_prep_write(&entry, file, buffers[0].iov_base, bytes, offset);
      }
    } else if (is_read) {
      ::io_uring_prep_readv(&entry, file, buffers.data(), count, offset);
    } else {
      ::io_uring_prep_writev(&entry, file, buffers.data(), count, offset);
    }
  }
  ::io_uring_sqe_set_data(&entry, &request);
}

bool is_transient_enter_result(int result) noexcept {
  return result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY ||
         result == -ETIME || result == -ENOMEM;
}

}  // namespace larder::io
