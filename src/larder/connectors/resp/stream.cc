#include "larder/connectors/resp/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace larder::resp {
namespace {

constexpr std::size_t kPiecesMax = 1024;  // IOV_MAX on Linux.

bool is_would_block(int error) noexcept {
  return error == EAGAIN || error == EWOULDBLOCK;
}

class PlainStream final : public Stream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const noexcept override { return socket_.get(); }
  Transfer handshake() noexcept override { return {.kind = Transfer::Kind::kDone}; }
  Transfer flush() noexcept override { return {.kind = Transfer::Kind::kDone}; }

  Transfer read(std::span<const iovec> into) noexcept override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(into.data());
    message.msg_iovlen = std::min(into.size(), kPiecesMax);
    ssize_t got = 0;
    do {
      got = ::recvmsg(socket_.get(), &message, 0);
    } while (got < 0 && errno == EINTR);
    if (got > 0) return {.kind = Transfer::Kind::kDone, .bytes = static_cast<std::uint64_t>(got)};
    if (got == 0) return {.kind = Transfer::Kind::kEnded};
    if (is_would_block(errno)) return {.kind = Transfer::Kind::kWantRead};
    return failed("reading from the server");
  }

  Transfer write(std::span<const iovec> from) noexcept override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(from.data());
    message.msg_iovlen = std::min(from.size(), kPiecesMax);
    ssize_t put = 0;
    do {
      put = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put > 0) return {.kind = Transfer::Kind::kDone, .bytes = static_cast<std::uint64_t>(put)};
    if (put == 0 || is_would_block(errno)) return {.kind = Transfer::Kind::kWantWrite};
    return failed("writing to the server");
  }

 private:
  static Transfer failed(const char* what) noexcept {
    // Whatever the errno: the connection is lost, and a later call may find the peer again.
    return {.kind = Transfer::Kind::kFailed, .error = Error{ErrorCode::kUnavailable, "resp", what}};
  }

  UniqueFd socket_;
};

}  // namespace

std::unique_ptr<Stream> make_plain_stream(UniqueFd socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

}  // namespace larder::resp
