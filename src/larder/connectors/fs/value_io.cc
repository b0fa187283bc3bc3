#include "larder/connectors/fs/value_io.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "larder/io/scattered_memory.h"
#include "larder/io/transfer.h"

namespace larder::fs {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{4} << 20;
constexpr std::size_t kPageBytes = 4096;
constexpr const char* kWhere = "fs";

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

bool fits(const iovec& buffer, const io::Alignment& alignment) {
  return reinterpret_cast<std::uintptr_t>(buffer.iov_base) % alignment.memory == 0;
}

}  // namespace

Result<std::span<std::byte>> StagingBuffer::get(const io::Alignment& alignment) {
  const std::size_t multiple = std::max<std::size_t>(alignment.offset, kPageBytes);
  if (buffer_.size() == 0) {
    LARDER_ASSIGN(buffer_,
                  AlignedBuffer::create(rounded_up(kChunkBytes, multiple),
                                        std::max<std::size_t>(alignment.memory, multiple)));
  }
  return buffer_.span();
}

ValueTransfer::ValueTransfer(std::span<const Slice> slices, std::uint64_t value_bytes,
                             const io::Alignment& alignment)
    : value_bytes_(value_bytes), alignment_(alignment) {
  all_.reserve(slices.size());
  std::uint64_t left = value_bytes;
  for (const Slice& slice : slices) {
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(slice.bytes, left));
    if (bytes == 0) continue;
    all_.push_back({slice.data, bytes});
    left -= bytes;
  }
  straight_bytes_ = fill_straight();
}

std::uint64_t ValueTransfer::fill_straight() {
  straight_.clear();
  std::uint64_t bytes = 0;
  for (const iovec& buffer : all_) {
    if (!fits(buffer, alignment_)) break;
    const std::size_t taken = buffer.iov_len - buffer.iov_len % alignment_.offset;
    if (taken != 0) straight_.push_back({buffer.iov_base, taken});
    bytes += taken;
    if (taken != buffer.iov_len) break;
  }
  return bytes;
}

void ValueTransfer::make_straight_read(int fd, io::Request& request) noexcept {
  request.operation = io::Operation::kRead;
  request.file = static_cast<io::FileId>(fd);
  request.offset = 0;
  request.buffers = straight_;
}

Status ValueTransfer::check_straight(const io::Request& request) const noexcept {
  if (request.sys_errno != 0) {
    return Error::from_errno(request.sys_errno, kWhere, "reading a file");
  }
  if (request.bytes_done != straight_bytes_) {
    return Error{ErrorCode::kCorruption, kWhere, "the file became shorter while it was read"};
  }
  return {};
}

Status ValueTransfer::read_straight(int fd) noexcept {
  if (straight_bytes_ == 0) return {};
  io::Request request;
  make_straight_read(fd, request);
  io::transfer_here(request, alignment_);
  return check_straight(request);
}

Status ValueTransfer::read_rest(int fd, StagingBuffer& staging, FsCounters& counters) {
  if (!has_rest()) return {};
  LARDER_ASSIGN(const std::span<std::byte> chunk, staging.get(alignment_));
  for (std::uint64_t at = straight_bytes_; at < value_bytes_;) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), value_bytes_ - at));
    // Whole blocks; the last one ends early, with the file.
    iovec buffer{chunk.data(),
                 std::min<std::size_t>(chunk.size(), rounded_up(wanted, alignment_.offset))};
    io::Request request;
    request.operation = io::Operation::kRead;
    request.file = static_cast<io::FileId>(fd);
    request.offset = at;
    request.buffers = {&buffer, 1};
    io::transfer_here(request, alignment_);
    if (request.sys_errno != 0) {
      return Error::from_errno(request.sys_errno, kWhere, "reading a file");
    }
    if (request.bytes_done < wanted) {
      return Error{ErrorCode::kCorruption, kWhere, "the file became shorter while it was read"};
    }
    io::scatter(all_, at, chunk.first(wanted));
    FsCounters::add(counters.bytes_staged, wanted);
    at += wanted;
  }
  return {};
}

Status ValueTransfer::write(int fd, StagingBuffer& staging, FsCounters& counters) {
  io::Request request;
  request.operation = io::Operation::kWrite;
  request.file = static_cast<io::FileId>(fd);
  if (straight_bytes_ > 0) {
    request.buffers = straight_;
    io::transfer_here(request, alignment_);
    if (request.sys_errno != 0) {
      return Error::from_errno(request.sys_errno, kWhere, "writing a file");
    }
  }
  if (!has_rest()) return {};
  LARDER_ASSIGN(const std::span<std::byte> chunk, staging.get(alignment_));
  for (std::uint64_t at = straight_bytes_; at < value_bytes_;) {
    const auto bytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), value_bytes_ - at));
    const std::size_t padded = rounded_up(bytes, alignment_.offset);
    io::gather(all_, at, chunk.first(bytes));
    std::memset(chunk.data() + bytes, 0, padded - bytes);
    iovec buffer{chunk.data(), padded};
    request.offset = at;
    request.buffers = {&buffer, 1};
    io::transfer_here(request, alignment_);
    if (request.sys_errno != 0) {
      return Error::from_errno(request.sys_errno, kWhere, "writing a file");
    }
    FsCounters::add(counters.bytes_staged, bytes);
    at += bytes;
  }
  if (value_bytes_ % alignment_.offset != 0 &&
      ::ftruncate(fd, static_cast<off_t>(value_bytes_)) != 0) {
    return Error::from_errno(errno, kWhere, "cutting a file to its length");
  }
  return {};
}

Hash128 checksum_of(std::span<const std::byte> key, std::span<const Slice> slices,
                    std::uint64_t value_bytes) noexcept {
  StreamingHash128 hash{hash64(key)};
  std::uint64_t left = value_bytes;
  for (const Slice& slice : slices) {
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(slice.bytes, left));
    if (bytes != 0) hash.update({slice.data, bytes});
    left -= bytes;
  }
  return hash.digest();
}

}  // namespace larder::fs
