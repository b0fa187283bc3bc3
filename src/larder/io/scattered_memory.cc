#include "larder/io/scattered_memory.h"

#include <algorithm>
#include <cstring>

#include "larder/base/check.h"

namespace larder::io {

namespace {

/// Calls visit(memory, bytes) for the pieces that make up [at, at + bytes) of the concatenation.
template <class Visit>
void visit_pieces(std::span<const iovec> buffers, std::uint64_t at, std::size_t bytes,
                  Visit visit) {
  for (const iovec& buffer : buffers) {
    if (bytes == 0) return;
    if (at >= buffer.iov_len) {
      at -= buffer.iov_len;
      continue;
    }
    const std::size_t piece = std::min(bytes, buffer.iov_len - static_cast<std::size_t>(at));
    visit(static_cast<std::byte*>(buffer.iov_base) + at, piece);
    bytes -= piece;
    at = 0;
  }
  LARDER_CHECK(bytes == 0);
}

}  // namespace

std::uint64_t scattered_bytes(std::span<const iovec> buffers) noexcept {
  std::uint64_t bytes = 0;
  for (const iovec& buffer : buffers) bytes += buffer.iov_len;
  return bytes;
}

void scatter(std::span<const iovec> buffers, std::uint64_t at,
             std::span<const std::byte> in) noexcept {
  visit_pieces(buffers, at, in.size(), [&in](std::byte* memory, std::size_t bytes) {
    std::memcpy(memory, in.data(), bytes);
    in = in.subspan(bytes);
  });
}

void gather(std::span<const iovec> buffers, std::uint64_t at, std::span<std::byte> out) noexcept {
  visit_pieces(buffers, at, out.size(), [&out](const std::byte* memory, std::size_t bytes) {
    std::memcpy(out.data(), memory, bytes);
    out = out.subspan(bytes);
  });
}

}  // namespace larder::io
