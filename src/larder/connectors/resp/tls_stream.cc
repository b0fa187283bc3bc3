#include "larder/connectors/resp/tls_stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

namespace larder::resp {
namespace {

constexpr std::size_t kRecordBytes = std::size_t{16} << 10;  // The most that one TLS record holds.

bool is_address(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return ::inet_pton(AF_INET, name.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), address.data()) == 1;
}

/// TLS over a non-blocking socket. Bytes to write are first gathered into one record, so that a
/// half-sent record never needs the caller's memory again.
class TlsStream final : public Stream {
 public:
  TlsStream(UniqueFd socket, SSL* ssl)
      : socket_(std::move(socket)), ssl_(ssl), record_(kRecordBytes) {}
  ~TlsStream() override { ::SSL_free(ssl_); }
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  int fd() const noexcept override { return socket_.get(); }

  Transfer handshake() noexcept override {
    ::ERR_clear_error();
    const int result = ::SSL_connect(ssl_);
    if (result == 1) return {.kind = Transfer::Kind::kDone};
    const long verified = ::SSL_get_verify_result(ssl_);
    if (verified != X509_V_OK) {
      return {.kind = Transfer::Kind::kFailed,
              .error = Error{ErrorCode::kUnavailable, "resp: the server's TLS certificate",
                             ::X509_verify_cert_error_string(verified)}};
    }
    return waiting_or_failed(result,
                             "the TLS handshake failed; does the server speak TLS here, and "
                             "does it want a client certificate?");
  }

  Transfer read(std::span<const iovec> into) noexcept override {
    std::uint64_t total = 0;
    for (const iovec& piece : into) {
      std::size_t done = 0;
      while (done < piece.iov_len) {
        std::size_t got = 0;
        ::ERR_clear_error();
        const int result = ::SSL_read_ex(ssl_, static_cast<char*>(piece.iov_base) + done,
                                         piece.iov_len - done, &got);
        if (result != 1) {
          if (total > 0) return {.kind = Transfer::Kind::kDone, .bytes = total};
          return waiting_or_failed(result, "reading from the server over TLS");
        }
        done += got;
        total += got;
      }
    }
    return {.kind = Transfer::Kind::kDone, .bytes = total};
  }

  Transfer write(std::span<const iovec> from) noexcept override {
    const Transfer flushed = flush();
    if (flushed.kind != Transfer::Kind::kDone) return flushed;
    for (const iovec& piece : from) {
      const std::size_t taken = std::min(piece.iov_len, kRecordBytes - record_bytes_);
      if (taken == 0) continue;
      std::memcpy(record_.data() + record_bytes_, piece.iov_base, taken);
      record_bytes_ += taken;
    }
    const std::size_t taken = record_bytes_;
    const Transfer sent = flush();
    if (sent.kind == Transfer::Kind::kFailed) return sent;
    return {.kind = Transfer::Kind::kDone, .bytes = taken};
  }

  Transfer flush() noexcept override {
    if (record_bytes_ == 0) return {.kind = Transfer::Kind::kDone};
    std::size_t put = 0;
    ::ERR_clear_error();
    const int result = ::SSL_write_ex(ssl_, record_.data(), record_bytes_, &put);
    if (result != 1) return waiting_or_failed(result, "writing to the server over TLS");
    record_bytes_ = 0;
    return {.kind = Transfer::Kind::kDone};
  }

 private:
  Transfer waiting_or_failed(int result, const char* what) noexcept {
    switch (::SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
        return {.kind = Transfer::Kind::kWantRead};
      case SSL_ERROR_WANT_WRITE:
        return {.kind = Transfer::Kind::kWantWrite};
      case SSL_ERROR_ZERO_RETURN:
        return {.kind = Transfer::Kind::kEnded};
      default:
        return {.kind = Transfer::Kind::kFailed,
                .error = Error{ErrorCode::kUnavailable, "resp", what}};
    }
  }

  UniqueFd socket_;
  SSL* const ssl_;
  std::vector<std::byte> record_;
  std::size_t record_bytes_ = 0;  ///< Gathered and not out yet.
};

}  // namespace

std::unique_ptr<Stream> TlsContext::connect(UniqueFd socket) {
  SSL* const ssl = ::SSL_new(context_);
  if (ssl == nullptr) return nullptr;
  auto stream = std::make_unique<TlsStream>(std::move(socket), ssl);
  bool is_set = ::SSL_set_fd(ssl, stream->fd()) == 1;
  if (is_address(server_name_)) {
    is_set =
        is_set && ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), server_name_.c_str()) == 1;
  } else {
    is_set = is_set && ::SSL_set1_host(ssl, server_name_.c_str()) == 1 &&
             ::SSL_set_tlsext_host_name(ssl, server_name_.c_str()) == 1;
  }
  // Without a name to check there is no verification: refuse the connection.
  if (!is_set) return nullptr;
  return stream;
}

}  // namespace larder::resp
