#pragma once

#include <cstdint>
#include <optional>

#include "larder/base/hash.h"
#include "larder/base/result.h"

namespace larder::fs {

/// The extended attribute `user.larder.checksum` of a file: 8 bytes length and 16 bytes XXH3-128,
/// little-endian.
struct ChecksumRecord {
  std::uint64_t value_bytes = 0;
  Hash128 hash;
};

Status write_checksum(int fd, const ChecksumRecord& record) noexcept;
/// Nothing: the file has none, or one of another form.
Result<std::optional<ChecksumRecord>> read_checksum(int fd) noexcept;

}  // namespace larder::fs
