#include "larder/tools/workload.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>

#include "larder/base/size_text.h"

namespace larder::tools {
namespace {

constexpr std::size_t kStampInterval = 4096;
constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;
constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << 40) - 1;

std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

SetupResult<ValueBuffers> ValueBuffers::create(const WorkloadShape& shape, std::uint32_t count,
                                               bool is_filled) {
  const std::uint64_t even = shape.value_bytes / shape.slices;
  // Whole blocks if that leaves something for the last slice, to preserve the alignment.
  const std::uint64_t piece =
      even >= shape.alignment ? even / shape.alignment * shape.alignment : even;
  if (piece < kValueBytesMin) {
    return SetupError{
        ErrorCode::kInvalidArgument,
        fmt::format("values of {} in {} slices: a slice needs at least {} bytes",
                    format_bytes_exact(shape.value_bytes), shape.slices, kValueBytesMin)};
  }
  ValueBuffers buffers{shape};
  // A gap behind each slice, so that slices cannot be taken for one piece of memory.
  const std::uint64_t last = shape.value_bytes - piece * (shape.slices - 1);
  const std::uint64_t gap = shape.slices > 1 || shape.unaligned_bytes > 0 ? shape.alignment : 0;
  const std::uint64_t stride = round_up(piece + shape.unaligned_bytes, shape.alignment) + gap;
  const std::uint64_t value_stride =
      stride * (shape.slices - 1) + round_up(last + shape.unaligned_bytes, shape.alignment) + gap;
  // Less than a huge page would be small pages, however much huge ones are wanted.
  const std::uint64_t bytes =
      round_up(value_stride * count, shape.has_huge_pages ? kHugePage : shape.alignment);
  auto memory = AlignedBuffer::create(bytes, shape.alignment);
  if (!memory) {
    return SetupError{memory.error().code(),
                      fmt::format("no memory for {} values of {}: use a smaller --batch or "
                                  "--in-flight",
                                  count, format_bytes(shape.value_bytes))};
  }
  buffers.memory_ = std::move(*memory);
  if (!shape.has_huge_pages && buffers.memory_.size() > 0) {
    // A hint, and untouched as yet.
    (void)::madvise(buffers.memory_.data(), buffers.memory_.size(), MADV_NOHUGEPAGE);
  }
  for (std::uint32_t buffer = 0; buffer < count; ++buffer) {
    for (std::uint32_t slice = 0; slice < shape.slices; ++slice) {
      const std::uint64_t slice_bytes = slice + 1 == shape.slices ? last : piece;
      std::byte* const data =
          buffers.memory_.data() + buffer * value_stride + slice * stride + shape.unaligned_bytes;
      buffers.slices_.push_back(Slice{data, slice_bytes});
      if (is_filled) buffers.pattern_.fill(seed_of(buffer, slice), {data, slice_bytes});
    }
  }
  return SetupResult<ValueBuffers>{std::move(buffers)};
}

void ValueBuffers::stamp(std::size_t buffer, std::uint64_t key) noexcept {
  std::uint64_t offset = 0;
  for (const Slice& slice : slices(buffer)) {
    stamp_slice({slice.data, slice.bytes}, offset, key, buffer);
    offset += slice.bytes;
  }
}

void ValueBuffers::stamp_slice(std::span<std::byte> slice, std::uint64_t offset, std::uint64_t key,
                               std::uint64_t buffer) const noexcept {
  const auto write = [&](std::size_t at) {
    const Stamp stamp{key, (buffer << 40) | (offset + at)};
    std::memcpy(slice.data() + at, &stamp, sizeof stamp);
  };
  for (std::size_t at = 0; at + sizeof(Stamp) <= slice.size(); at += kStampInterval) write(at);
  write(slice.size() - sizeof(Stamp));
}

ValueBuffers::Stamp ValueBuffers::read_stamp(const std::byte* at) noexcept {
  Stamp stamp;
  std::memcpy(&stamp, at, sizeof stamp);
  return stamp;
}

bool ValueBuffers::is_stamped_with(std::size_t buffer, std::uint64_t key) const noexcept {
  const auto pieces = slices(buffer);
  const Stamp first = read_stamp(pieces.front().data);
  const Slice& end = pieces.back();
  const Stamp last = read_stamp(end.data + end.bytes - sizeof(Stamp));
  const std::uint64_t last_offset = shape_.value_bytes - sizeof(Stamp);
  return first.key == key && last.key == key && (first.place & kOffsetMask) == 0 &&
         last.place == (first.place | last_offset);
}

bool ValueBuffers::holds_value_of(std::size_t buffer, std::uint64_t key) const {
  if (!is_stamped_with(buffer, key)) return false;
  const auto pieces = slices(buffer);
  const std::uint64_t source = read_stamp(pieces.front().data).place >> 40;
  std::vector<std::byte> expected;
  std::uint64_t offset = 0;
  for (std::size_t slice = 0; slice < pieces.size(); ++slice) {
    expected.resize(pieces[slice].bytes);
    pattern_.fill(seed_of(source, slice), expected);
    stamp_slice(expected, offset, key, source);
    if (std::memcmp(expected.data(), pieces[slice].data, expected.size()) != 0) return false;
    offset += pieces[slice].bytes;
  }
  return true;
}

std::string bench_key(const std::string& run, std::uint64_t number) {
  return fmt::format("bench/{}/{:012}", run, number);
}

}  // namespace larder::tools
