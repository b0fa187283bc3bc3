#pragma once

#include <cstdint>
#include <optional>

namespace larder::server {

/// Bytes that TCP has received on the socket since it was connected, in order and acknowledged.
/// Nothing: it is no TCP socket. One system call.
std::optional<std::uint64_t> tcp_bytes_received(int fd) noexcept;

/// The port at this end. 0: it has none.
std::uint16_t local_port_of(int fd) noexcept;

}  // namespace larder::server
