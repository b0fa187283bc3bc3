#include "tests/corruption/image_device.h"

#include <algorithm>
#include <cerrno>

#include "larder/base/check.h"

namespace larder::corruption {

std::vector<std::byte> StoreImage::read(std::string_view name) const {
  const auto file = files_.find(name);
  LARDER_CHECK(file != files_.end());
  return read(name, 0, static_cast<std::size_t>(file->second.bytes));
}

std::vector<std::byte> StoreImage::read(std::string_view name, std::uint64_t offset,
                                        std::size_t bytes) const {
  const auto file = files_.find(name);
  LARDER_CHECK(file != files_.end());
  std::vector<std::byte> content(bytes);
  file->second.image.read(offset, content);
  return content;
}

void StoreImage::write(std::string_view name, std::uint64_t offset,
                       std::span<const std::byte> bytes) {
  File& file = files_[std::string{name}];
  file.image.write(offset, bytes);
  file.bytes = std::max(file.bytes, offset + bytes.size());
}

void StoreImage::flip_bit(std::string_view name, std::uint64_t offset, unsigned bit) {
  std::vector<std::byte> byte = read(name, offset, 1);
  byte[0] ^= static_cast<std::byte>(1U << bit);
  write(name, offset, byte);
}

ImageDevice::ImageDevice(StoreImage& image, ManualClock& clock) : image_(image), clock_(clock) {
  facts_.file_system = "memory";
}

StoreImage::File& ImageDevice::file_of(io::FileId file) {
  LARDER_CHECK(file < open_.size() && !open_[file].empty());
  return image_.files()[open_[file]];
}

Result<std::vector<io::FileInfo>> ImageDevice::list() {
  std::vector<io::FileInfo> infos;
  for (const auto& [name, file] : image_.files()) {
    infos.push_back({.name = name, .bytes = file.bytes, .allocated_bytes = file.bytes});
  }
  return infos;
}

Result<io::FileId> ImageDevice::open(std::string_view name, io::OpenMode mode) {
  const bool is_there = image_.files().contains(name);
  if (is_there && mode == io::OpenMode::kCreate) {
    return Error::from_errno(EEXIST, "image", "making a file");
  }
  if (!is_there && mode != io::OpenMode::kCreate) {
    return Error::from_errno(ENOENT, "image", "opening a file");
  }
  auto slot = std::ranges::find(open_, std::string{});
  if (slot == open_.end()) slot = open_.insert(slot, std::string{});
  *slot = name;
  image_.files()[*slot];
  return static_cast<io::FileId>(slot - open_.begin());
}

void ImageDevice::close(io::FileId file) noexcept {
  open_[file].clear();
}

Result<io::FileInfo> ImageDevice::info(io::FileId file) {
  const StoreImage::File& found = file_of(file);
  return io::FileInfo{.name = open_[file], .bytes = found.bytes, .allocated_bytes = found.bytes};
}

Status ImageDevice::allocate(io::FileId file, std::uint64_t bytes) {
  StoreImage::File& found = file_of(file);
  found.bytes = std::max(found.bytes, bytes);
  return {};
}

Status ImageDevice::remove(std::string_view name) {
  const auto file = image_.files().find(name);
  if (file == image_.files().end()) return Error::from_errno(ENOENT, "image", "removing a file");
  image_.files().erase(file);
  return {};
}

Result<io::Space> ImageDevice::space() {
  constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;
  return io::Space{.total_bytes = kPlenty, .free_bytes = kPlenty};
}

void ImageDevice::submit(io::Request& request) noexcept {
  request.bytes_done = 0;
  request.sys_errno = 0;
  if (request.operation != io::Operation::kSync) {
    StoreImage::File& file = file_of(request.file);
    std::uint64_t at = request.offset;
    for (const iovec& part : request.buffers) {
      const std::span<std::byte> memory{static_cast<std::byte*>(part.iov_base), part.iov_len};
      if (request.operation == io::Operation::kWrite) {
        file.image.write(at, memory);
        file.bytes = std::max(file.bytes, at + memory.size());
        at += memory.size();
        continue;
      }
      const std::uint64_t left = file.bytes > at ? file.bytes - at : 0;
      const std::size_t bytes = std::min<std::uint64_t>(memory.size(), left);
      file.image.read(at, memory.first(bytes));
      at += bytes;
      if (bytes < memory.size()) break;
    }
    request.bytes_done = at - request.offset;
  }
  done_.push(request);
}

std::size_t ImageDevice::reap(std::span<io::Request*> done) noexcept {
  std::size_t count = 0;
  while (count < done.size()) {
    io::Request* const request = done_.pop();
    if (request == nullptr) break;
    done[count++] = request;
  }
  return count;
}

void ImageDevice::wait(std::uint64_t until_ns) noexcept {
  if (!done_.empty() || is_woken_.exchange(false, std::memory_order_acquire)) return;
  if (until_ns != kNever) clock_.advance_to_ns(until_ns);
}

}  // namespace larder::corruption
