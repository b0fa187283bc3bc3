#include "larder/base/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace larder {
namespace {

constexpr std::size_t kMappedFrom = std::size_t{1} << 20;
constexpr std::size_t kLargest = std::numeric_limits<std::size_t>::max() / 4;  // Sums fit.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t page_bytes() noexcept {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) noexcept {
  return (value + multiple - 1) & ~(multiple - 1);
}

/// Maps more than is needed and unmaps the ends around the aligned part: mmap() itself aligns to
/// pages only.
Result<std::byte*> map(std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t mapped = bytes + (alignment - page_bytes());
  void* region =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) {
    return Error::from_errno(errno, "aligned_buffer", "mapping memory");
  }
  auto* begin = static_cast<std::byte*>(region);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t before = round_up(address, alignment) - address;
  const std::size_t behind = mapped - bytes - before;
  if (before != 0) ::munmap(begin, before);
  begin += before;
  if (behind != 0) ::munmap(begin + bytes, behind);
  // A hint only: kernels without huge pages refuse it, and small pages work as well.
  (void)::madvise(begin, bytes, MADV_HUGEPAGE);
  return begin;
}

}  // namespace

Result<AlignedBuffer> AlignedBuffer::create(std::size_t bytes, std::size_t alignment) {
  if (!std::has_single_bit(alignment)) {
    return Error{ErrorCode::kInvalidArgument, "aligned_buffer", "alignment is not a power of two"};
  }
  if (bytes == 0) return AlignedBuffer{};
  if (bytes > kLargest || alignment > kLargest) {
    return Error{ErrorCode::kResourceExhausted, "aligned_buffer", "larger than the address space"};
  }
  if (bytes >= kMappedFrom) {
    const std::size_t least = bytes >= kHugePage ? kHugePage : page_bytes();
    LARDER_ASSIGN(std::byte * data, map(round_up(bytes, page_bytes()), std::max(alignment, least)));
    return AlignedBuffer{data, bytes};
  }
  const std::size_t aligned = std::max(alignment, alignof(std::max_align_t));
  void* data = std::aligned_alloc(aligned, round_up(bytes, aligned));
  if (data == nullptr) {
    return Error{ErrorCode::kResourceExhausted, "aligned_buffer", "allocating memory"};
  }
  std::memset(data, 0, bytes);
  return AlignedBuffer{static_cast<std::byte*>(data), bytes};
}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void AlignedBuffer::reset() noexcept {
  if (size_ >= kMappedFrom) {
    ::munmap(data_, round_up(size_, page_bytes()));
  } else {
    std::free(data_);
  }
  data_ = nullptr;
  size_ = 0;
}

}  // namespace larder
