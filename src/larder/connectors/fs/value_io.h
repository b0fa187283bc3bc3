#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/hash.h"
#include "larder/base/result.h"
#include "larder/connector/connector.h"
#include "larder/connectors/fs/counters.h"
#include "larder/io/device.h"

namespace larder::fs {

/// Aligned memory for the parts of a value that direct I/O cannot take from the caller's memory.
/// Made at first use, then kept. One thread at a time.
class StagingBuffer {
 public:
  /// At least a chunk, and a multiple of the alignment.
  Result<std::span<std::byte>> get(const io::Alignment& alignment);

 private:
  AlignedBuffer buffer_;
};

/// How a value goes between the caller's slices and an open file: from its beginning straight, as
/// far as every slice fits the alignment, and the rest in chunks through a staging buffer.
///
/// Buffered files have the alignment {1, 1}: everything goes straight. Direct files take any slices
/// and any length; only the parts that are not aligned are copied, and counted. Owns a list of the
/// slices, not the memory. The file is the caller's.
class ValueTransfer {
 public:
  /// The first `value_bytes` bytes of `slices`.
  ValueTransfer(std::span<const Slice> slices, std::uint64_t value_bytes,
                const io::Alignment& alignment);

  std::uint64_t straight_bytes() const noexcept { return straight_bytes_; }
  bool has_rest() const noexcept { return straight_bytes_ < value_bytes_; }

  /// Makes `request` the straight part of a read of `fd`, which reads all of it or fails.
  void make_straight_read(int fd, io::Request& request) noexcept;
  /// Result of a finished straight transfer.
  Status check_straight(const io::Request& request) const noexcept;

  /// The straight part in this thread.
  Status read_straight(int fd) noexcept;
  /// The part that is not straight. Reads EOF before its end: kIo.
  Status read_rest(int fd, StagingBuffer& staging, FsCounters& counters);
  /// Everything. The file then ends with the value.
  Status write(int fd, StagingBuffer& staging, FsCounters& counters);

 private:
  std::uint64_t fill_straight();

  std::vector<iovec> all_;       ///< The value, without empty slices.
  std::vector<iovec> straight_;  ///< A copy that transfers may change.
  const std::uint64_t value_bytes_;
  const io::Alignment alignment_;
  std::uint64_t straight_bytes_ = 0;
};

/// XXH3-128 of a value that lies in slices, seeded with its key: another key's value does not fit.
Hash128 checksum_of(std::span<const std::byte> key, std::span<const Slice> slices,
                    std::uint64_t value_bytes) noexcept;

}  // namespace larder::fs
