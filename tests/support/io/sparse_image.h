#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace larder::io {

/// The bytes of a simulated file: what was never written reads as zeros and costs no memory.
/// Copying one is cheap (pages are shared until written). Has no length of its own. One thread at a
/// time.
class SparseImage {
 public:
  void read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
    while (!out.empty()) {
      const std::size_t index = static_cast<std::size_t>(offset / kPageBytes);
      const std::size_t within = static_cast<std::size_t>(offset % kPageBytes);
      const std::size_t bytes = std::min(out.size(), kPageBytes - within);
      if (index < pages_.size() && pages_[index] != nullptr) {
        std::memcpy(out.data(), pages_[index]->data() + within, bytes);
      } else {
        std::memset(out.data(), 0, bytes);
      }
      out = out.subspan(bytes);
      offset += bytes;
    }
  }

  void write(std::uint64_t offset, std::span<const std::byte> in) {
    while (!in.empty()) {
      const std::size_t within = static_cast<std::size_t>(offset % kPageBytes);
      const std::size_t bytes = std::min(in.size(), kPageBytes - within);
      std::memcpy(writable_page(static_cast<std::size_t>(offset / kPageBytes)) + within, in.data(),
                  bytes);
      in = in.subspan(bytes);
      offset += bytes;
    }
  }

  /// Everything from `bytes` on is zeros again.
  void truncate(std::uint64_t bytes) {
    const std::size_t index = static_cast<std::size_t>(bytes / kPageBytes);
    const std::size_t within = static_cast<std::size_t>(bytes % kPageBytes);
    if (index >= pages_.size()) return;
    if (within != 0 && pages_[index] != nullptr) {
      std::memset(writable_page(index) + within, 0, kPageBytes - within);
    }
    pages_.resize(index + (within != 0 ? 1 : 0));
  }

 private:
  static constexpr std::size_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;

  std::byte* writable_page(std::size_t index) {
    if (index >= pages_.size()) pages_.resize(index + 1);
    auto& page = pages_[index];
    if (page == nullptr) {
      page = std::make_shared<Page>();
    } else if (page.use_count() > 1) {
      page = std::make_shared<Page>(*page);
    }
    return page->data();
  }

  std::vector<std::shared_ptr<Page>> pages_;  // Shared with copies of this image until one writes.
};

}  // namespace larder::io
