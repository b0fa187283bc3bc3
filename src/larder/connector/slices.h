#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "larder/connector/connector.h"

namespace larder {

/// Calls visit(std::span<std::byte>) for each piece of caller memory that holds the value's bytes
/// [from, to), in their order. No piece is empty.
template <class Visitor>
void for_each_piece(std::span<const Slice> slices, std::uint64_t from, std::uint64_t to,
                    Visitor&& visit) {
  std::uint64_t at = 0;
  for (const Slice& slice : slices) {
    if (at >= to) return;
    const std::uint64_t end = at + slice.bytes;
    if (end > from && slice.bytes > 0) {
      const std::uint64_t skip = from > at ? from - at : 0;
      visit(std::span{slice.data, slice.bytes}.subspan(skip, std::min(end, to) - at - skip));
    }
    at = end;
  }
}

/// Copies `buffer` into the value's pieces, from byte `from` of the value on. Bytes beyond the
/// pieces are left out.
inline void copy_to_slices(std::span<const std::byte> buffer, std::span<const Slice> slices,
                           std::uint64_t from = 0) noexcept {
  for_each_piece(slices, from, from + buffer.size(), [&](std::span<std::byte> piece) {
    std::memcpy(piece.data(), buffer.data(), piece.size());
    buffer = buffer.subspan(piece.size());
  });
}

/// Fills `buffer` with the value's bytes from `from` on, as far as there are any.
inline void copy_from_slices(std::span<std::byte> buffer, std::span<const Slice> slices,
                             std::uint64_t from = 0) noexcept {
  for_each_piece(slices, from, from + buffer.size(), [&](std::span<std::byte> piece) {
    std::memcpy(buffer.data(), piece.data(), piece.size());
    buffer = buffer.subspan(piece.size());
  });
}

}  // namespace larder
