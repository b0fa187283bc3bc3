#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace larder::io {

/// Length of all buffers together.
std::uint64_t scattered_bytes(std::span<const iovec> buffers) noexcept;

/// Copies `in` to the buffers, from the byte `at` of their concatenation on. It must fit.
void scatter(std::span<const iovec> buffers, std::uint64_t at,
             std::span<const std::byte> in) noexcept;

/// The opposite direction.
void gather(std::span<const iovec> buffers, std::uint64_t at, std::span<std::byte> out) noexcept;

}  // namespace larder::io
