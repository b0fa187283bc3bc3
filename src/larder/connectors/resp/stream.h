#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::resp {

/// The result of a transfer on a non-blocking stream.
struct Transfer {
  enum class Kind : std::uint8_t {
    kDone = 0,   ///< `bytes` were moved, at least one.
    kWantRead,   ///< Nothing now; again when the socket is readable.
    kWantWrite,  ///< Nothing now; again when it is writable.
    kEnded,      ///< The peer has closed (reads only).
    kFailed,     ///< `error`
  };
  Kind kind = Kind::kFailed;
  std::uint64_t bytes = 0;
  Error error = {};
};

/// A connected byte stream that never waits: plain or TLS. Owns the socket. One thread at a time.
class Stream {
 public:
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  virtual int fd() const noexcept = 0;
  /// Until kDone no read or write is allowed.
  virtual Transfer handshake() noexcept = 0;
  virtual Transfer read(std::span<const iovec> into) noexcept = 0;
  /// Bytes that were taken are in flight, and their memory is the caller's again; but see flush().
  virtual Transfer write(std::span<const iovec> from) noexcept = 0;
  /// kDone with 0 bytes: no taken bytes wait here. Call it before more is written.
  virtual Transfer flush() noexcept = 0;
};

/// TCP or unix socket as it is: no copy but the kernel's.
std::unique_ptr<Stream> make_plain_stream(UniqueFd socket);

}  // namespace larder::resp
