#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/result.h"

namespace larder::log_store {

/// A bounded pool of aligned memory, for values whose own buffers direct I/O cannot use.
///
/// Threads: one. Ownership: the pool owns the memory and must outlive its chunks; moving the pool
///   keeps their addresses. Invariant: free ranges are sorted by offset, apart from each other, and
///   together with the chunks make up the whole.
/// Cost: allocate() and release() are linear in the number of free ranges (at most one more than
///   there are chunks). Memory that was never handed out takes no page from a pool of 1 MiB and
///   more; the lowest place that fits is taken, so that a lightly used pool stays small.
class Staging {
 public:
  /// `alignment` is a power of two; `bytes` is rounded down to its multiple.
  static Result<Staging> create(std::size_t bytes, std::size_t alignment);

  /// `bytes` of memory at the pool's alignment, padded to a multiple of it; contents are whatever
  /// was there. An empty span when nothing fits now, or for 0 bytes.
  std::span<std::byte> allocate(std::size_t bytes);
  /// Frees exactly what allocate() returned. Does nothing for an empty span.
  void release(std::span<std::byte> chunk);

  std::size_t bytes_in_use() const noexcept { return bytes_in_use_; }  ///< Padding included.
  std::size_t capacity() const noexcept { return memory_.size(); }

 private:
  struct Range {
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };

  Staging(AlignedBuffer memory, std::size_t alignment);
  std::size_t padded(std::size_t bytes) const noexcept {
    return (bytes + alignment_ - 1) & ~(alignment_ - 1);
  }

  AlignedBuffer memory_;
  std::size_t alignment_ = 1;
  std::size_t bytes_in_use_ = 0;
  std::vector<Range> free_;
};

}  // namespace larder::log_store
