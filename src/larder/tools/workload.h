#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/tools/value_pattern.h"

namespace larder::tools {

struct WorkloadShape {
  std::uint64_t value_bytes = 0;
  std::uint32_t slices = 1;           ///< Pieces of memory that one value lies in.
  std::uint32_t unaligned_bytes = 0;  ///< Every piece begins this far behind an aligned address.
  std::uint32_t alignment = 4096;
  bool has_huge_pages = true;  ///< If the kernel provides them.
};

/// Memory for a benchmark's values, and their bytes.
///
/// Every buffer is filled once with its own random bytes. A store of key number n then writes a
/// stamp (n, buffer, offset; 16 bytes) at each 4 KiB and at the end: so every stored value differs
/// from every other in each of its 4 KiB blocks, cannot be compressed, and costs almost nothing to
/// make while the clock runs. The stamp names the buffer, so a loaded value can be checked quickly
/// (first and last stamp) or completely (made again).
/// Threads: one at a time.
class ValueBuffers {
 public:
  static constexpr std::uint64_t kValueBytesMin = 64;  ///< Per slice.

  /// `is_filled`: for stores. Buffers for loads stay empty.
  static SetupResult<ValueBuffers> create(const WorkloadShape& shape, std::uint32_t count,
                                          bool is_filled);

  std::span<const Slice> slices(std::size_t buffer) const noexcept {
    return std::span{slices_}.subspan(buffer * shape_.slices, shape_.slices);
  }

  /// Makes the buffer the value of key number `key`.
  void stamp(std::size_t buffer, std::uint64_t key) noexcept;
  /// First and last stamp.
  bool is_stamped_with(std::size_t buffer, std::uint64_t key) const noexcept;
  /// Every byte.
  bool holds_value_of(std::size_t buffer, std::uint64_t key) const;

 private:
  struct Stamp {
    std::uint64_t key = 0;
    std::uint64_t place = 0;  ///< Buffer << 40 | offset in the value.
  };

  explicit ValueBuffers(const WorkloadShape& shape) : shape_(shape) {}

  static std::uint64_t seed_of(std::uint64_t buffer, std::size_t slice) noexcept {
    return (buffer << 32) | slice;
  }
  /// Writes the stamps of one slice that begins at `offset` of its value.
  void stamp_slice(std::span<std::byte> slice, std::uint64_t offset, std::uint64_t key,
                   std::uint64_t buffer) const noexcept;
  static Stamp read_stamp(const std::byte* at) noexcept;

  WorkloadShape shape_;
  ValuePattern pattern_;
  AlignedBuffer memory_;
  std::vector<Slice> slices_;
};

/// "bench/RUN/NUMBER": no two runs share a key.
std::string bench_key(const std::string& run, std::uint64_t number);

}  // namespace larder::tools
