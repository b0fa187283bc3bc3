#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "larder/base/result.h"

namespace larder {

/// Owns zeroed memory at an alignment that O_DIRECT asks for. From 1 MiB on it is mapped (at least
/// page-aligned, huge pages where the system gives them, pages appear at first touch), below that
/// allocated. Movable, not copyable; moving keeps the address. Threads: as plain memory.
class AlignedBuffer {
 public:
  AlignedBuffer() noexcept = default;
  ~AlignedBuffer() { reset(); }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  /// `alignment` is a power of two, else kInvalidArgument. 0 bytes give an empty buffer.
  static Result<AlignedBuffer> create(std::size_t bytes, std::size_t alignment);

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> span() noexcept { return {data_, size_}; }
  std::span<const std::byte> span() const noexcept { return {data_, size_}; }

 private:
  AlignedBuffer(std::byte* data, std::size_t size) noexcept : data_(data), size_(size) {}
  void reset() noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace larder
