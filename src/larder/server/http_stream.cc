#include "larder/server/http_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "larder/base/clock.h"

namespace larder::server {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kSilenceNs = 2 * kSecondNs;
constexpr std::uint64_t kHeadNs = 5 * kSecondNs;
constexpr std::uint64_t kBodyNs = 20 * kSecondNs;
constexpr std::uint64_t kReplyNs = 20 * kSecondNs;
constexpr std::size_t kHeadBytesMax = 64 << 10;
/// The overhead of chunked encoding.
constexpr std::size_t kFramingBytesMax = 64 << 10;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

}  // namespace

HttpStream::HttpStream(int fd) noexcept
    : fd_(fd), read_until_ns_(now_ns() + kHeadNs), bytes_left_(kHeadBytesMax) {}

void HttpStream::allow_body(std::size_t bytes) noexcept {
  bytes_left_ += bytes + kFramingBytesMax;
  read_until_ns_ = now_ns() + kBodyNs;
}

bool HttpStream::wait(short events, std::uint64_t until_ns) const noexcept {
  const std::uint64_t now = now_ns();
  const std::uint64_t end_ns = std::min(until_ns, now + kSilenceNs);
  if (end_ns <= now) return false;
  ::pollfd of_socket{.fd = fd_, .events = events, .revents = 0};
  const int milliseconds = static_cast<int>((end_ns - now + 999'999) / 1'000'000);
  const int count = ::poll(&of_socket, 1, milliseconds);
  return count > 0 || (count < 0 && errno == EINTR);
}

::ssize_t HttpStream::receive() noexcept {
  for (;;) {
    if (!wait(POLLIN, read_until_ns_)) return -1;
    const ::ssize_t got =
        ::recv(fd_, buffer_.data(), std::min(buffer_.size(), bytes_left_), MSG_DONTWAIT);
    if (got >= 0 || (errno != EINTR && errno != EAGAIN)) return got;
  }
}

::ssize_t HttpStream::read(char* data, std::size_t bytes) {
  if (begin_ == end_) {
    if (bytes_left_ == 0) return -1;
    const ::ssize_t got = receive();
    if (got <= 0) return got;
    bytes_left_ -= static_cast<std::size_t>(got);
    begin_ = 0;
    end_ = static_cast<std::size_t>(got);
  }
  const std::size_t taken = std::min(bytes, end_ - begin_);
  std::memcpy(data, buffer_.data() + begin_, taken);
  begin_ += taken;
  return static_cast<::ssize_t>(taken);
}

::ssize_t HttpStream::write(const char* data, std::size_t bytes) {
  if (write_until_ns_ == 0) write_until_ns_ = now_ns() + kReplyNs;
  for (;;) {
    const ::ssize_t sent = ::send(fd_, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0 || (errno != EINTR && errno != EAGAIN)) return sent;
    if (!wait(POLLOUT, write_until_ns_)) return -1;
  }
}

bool HttpStream::is_readable() const {
  return begin_ != end_ || wait(POLLIN, read_until_ns_);
}

bool HttpStream::is_writable() const {
  return wait(POLLOUT, write_until_ns_ == 0 ? kNever : write_until_ns_);
}

void HttpStream::discard_input() noexcept {
  constexpr std::size_t kDiscardedMax = std::size_t{32} << 20;
  ::shutdown(fd_, SHUT_WR);
  read_until_ns_ = now_ns() + kSilenceNs;
  bytes_left_ = buffer_.size();
  for (std::size_t discarded = 0; discarded < kDiscardedMax;) {
    const ::ssize_t got = receive();
    if (got <= 0) return;
    discarded += static_cast<std::size_t>(got);
  }
}

}  // namespace larder::server
