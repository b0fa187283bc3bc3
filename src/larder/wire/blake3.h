#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace larder::wire {

/// The first 32 bytes of BLAKE3's output, its default length.
using Blake3Hash = std::array<std::byte, 32>;

/// BLAKE3 without a key, of data in one piece. Any thread; no allocation; works in place.
///
/// Made for inputs of one to a few kilobytes that depend on each other (chunk_hash.h): it shortens
/// a single compression and does not hash several pieces in parallel, so it is not the fastest for
/// large files.
Blake3Hash blake3(std::span<const std::byte> data) noexcept;

/// One way of computing the same hash.
struct Blake3Implementation {
  std::string_view name;  ///< "avx512vl", "sse4.1" or "portable".
  Blake3Hash (*hash)(std::span<const std::byte> data) noexcept;
};

/// Every implementation that this machine can run, the fastest first: blake3() uses that one. For
/// tests and benchmarks.
std::span<const Blake3Implementation> blake3_implementations() noexcept;

}  // namespace larder::wire
