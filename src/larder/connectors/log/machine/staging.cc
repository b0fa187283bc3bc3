#include "larder/connectors/log/machine/staging.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "larder/base/check.h"

namespace larder::log_store {

Staging::Staging(AlignedBuffer memory, std::size_t alignment)
    : memory_(std::move(memory)), alignment_(alignment) {
  if (memory_.size() != 0) free_.push_back({.offset = 0, .bytes = memory_.size()});
}

Result<Staging> Staging::create(std::size_t bytes, std::size_t alignment) {
  if (!std::has_single_bit(alignment)) {
    return Error{ErrorCode::kInvalidArgument, "log: staging memory",
                 "the alignment is not a power of two"};
  }
  LARDER_ASSIGN(AlignedBuffer memory, AlignedBuffer::create(bytes & ~(alignment - 1), alignment));
  return Staging{std::move(memory), alignment};
}

std::span<std::byte> Staging::allocate(std::size_t bytes) {
  if (bytes == 0 || bytes > memory_.size()) return {};
  const std::size_t taken = padded(bytes);
  const auto range = std::find_if(free_.begin(), free_.end(),
                                  [taken](const Range& free) { return free.bytes >= taken; });
  if (range == free_.end()) return {};
  const std::size_t offset = range->offset;
  if (range->bytes == taken) {
    free_.erase(range);
  } else {
    range->offset += taken;
    range->bytes -= taken;
  }
  bytes_in_use_ += taken;
  return memory_.span().subspan(offset, bytes);
}

void Staging::release(std::span<std::byte> chunk) {
  if (chunk.empty()) return;
  // As numbers: the check must detect a foreign chunk, which is a bug.
  const auto begin = reinterpret_cast<std::uintptr_t>(memory_.data());
  const auto at = reinterpret_cast<std::uintptr_t>(chunk.data());
  LARDER_CHECK(at >= begin && at - begin < memory_.size());
  const std::size_t offset = at - begin;
  const std::size_t bytes = padded(chunk.size());
  LARDER_CHECK(offset % alignment_ == 0 && bytes <= memory_.size() - offset);

  const auto next =
      std::upper_bound(free_.begin(), free_.end(), offset,
                       [](std::size_t value, const Range& free) { return value < free.offset; });
  const bool has_previous = next != free_.begin();
  const auto previous = has_previous ? next - 1 : next;
  // A chunk that overlaps a free range was released before.
  LARDER_CHECK(!has_previous || previous->offset + previous->bytes <= offset);
  LARDER_CHECK(next == free_.end() || offset + bytes <= next->offset);
  bytes_in_use_ -= bytes;

  const bool joins_previous = has_previous && previous->offset + previous->bytes == offset;
  const bool joins_next = next != free_.end() && offset + bytes == next->offset;
  if (joins_previous && joins_next) {
    previous->bytes += bytes + next->bytes;
    free_.erase(next);
  } else if (joins_previous) {
    previous->bytes += bytes;
  } else if (joins_next) {
    next->offset = offset;
    next->bytes += bytes;
  } else {
    free_.insert(next, {.offset = offset, .bytes = bytes});
  }
}

}  // namespace larder::log_store
