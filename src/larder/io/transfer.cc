#include "larder/io/transfer.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "larder/base/check.h"
#include "larder/io/scattered_memory.h"

namespace larder::io {

namespace {

// The meaning of each of queue_words.
constexpr std::size_t kFirstBuffer = 0;
constexpr std::size_t kBytesLeft = 1;

/// Moves the beginning of the list forward by `bytes`.
void consume(Request& request, std::uint64_t bytes) noexcept {
  while (bytes > 0) {
    iovec& buffer = request.buffers[static_cast<std::size_t>(request.queue_words[kFirstBuffer])];
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, buffer.iov_len));
    buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + step;
    buffer.iov_len -= step;
    bytes -= step;
    if (buffer.iov_len == 0) ++request.queue_words[kFirstBuffer];
  }
}

TransferStep end(Request& request, int sys_errno) noexcept {
  request.sys_errno = sys_errno;
  return TransferStep::kEnded;
}

/// One system call; the result as io_uring gives it.
std::int64_t call(Request& request, int fd) noexcept {
  if (request.operation == Operation::kSync) return ::fdatasync(fd) == 0 ? 0 : -errno;
  const std::span<iovec> buffers = remaining_buffers(request);
  const int count = static_cast<int>(buffers.size());
  const auto offset = static_cast<off_t>(request.offset + request.bytes_done);
  const ssize_t result = request.operation == Operation::kRead
                             ? ::preadv(fd, buffers.data(), count, offset)
                             : ::pwritev(fd, buffers.data(), count, offset);
  return result < 0 ? -errno : result;
}

}  // namespace

TransferStep begin_transfer(Request& request) noexcept {
  request.bytes_done = 0;
  request.sys_errno = 0;
  request.queue_words[kFirstBuffer] = 0;
  request.queue_words[kBytesLeft] = 0;
  if (request.operation == Operation::kSync) return TransferStep::kContinue;
  LARDER_CHECK(!request.buffers.empty() && request.buffers.size() <= kBuffersMax);
  request.queue_words[kBytesLeft] = scattered_bytes(request.buffers);
  return request.queue_words[kBytesLeft] == 0 ? TransferStep::kEnded : TransferStep::kContinue;
}

std::span<iovec> remaining_buffers(Request& request) noexcept {
  return request.buffers.subspan(static_cast<std::size_t>(request.queue_words[kFirstBuffer]));
}

TransferStep advance_transfer(Request& request, std::int64_t result,
                              const Alignment& alignment) noexcept {
  if (result == -EINTR || result == -EAGAIN) return TransferStep::kContinue;
  if (result < 0) return end(request, static_cast<int>(-result));
  if (request.operation == Operation::kSync) return end(request, 0);
  if (result == 0) return end(request, request.operation == Operation::kRead ? 0 : EIO);

  const auto bytes = static_cast<std::uint64_t>(result);
  LARDER_CHECK(bytes <= request.queue_words[kBytesLeft]);
  request.bytes_done += bytes;
  request.queue_words[kBytesLeft] -= bytes;
  if (request.queue_words[kBytesLeft] == 0) return end(request, 0);
  if ((request.offset + request.bytes_done) % alignment.offset != 0) {
    return end(request, request.operation == Operation::kRead ? 0 : EIO);
  }
  consume(request, bytes);
  return TransferStep::kContinue;
}

void run_transfer(Request& request, int fd, const Alignment& alignment) noexcept {
  while (advance_transfer(request, call(request, fd), alignment) == TransferStep::kContinue) {
  }
}

void transfer_here(Request& request, const Alignment& alignment) noexcept {
  if (begin_transfer(request) == TransferStep::kEnded) return;
  run_transfer(request, static_cast<int>(request.file), alignment);
}

}  // namespace larder::io
