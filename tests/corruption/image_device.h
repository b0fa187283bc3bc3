#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/clock.h"
#include "larder/io/directory.h"
#include "larder/io/request_queue.h"
#include "larder/io/transfer_queue.h"
#include "tests/support/io/sparse_image.h"

namespace larder::corruption {

/// The files of a directory in memory. Copies share their pages until one of them writes, so that a
/// store is copied, damaged and opened thousands of times a second. One thread at a time.
class StoreImage {
 public:
  struct File {
    io::SparseImage image;
    std::uint64_t bytes = 0;
  };
  using Files = std::map<std::string, File, std::less<>>;

  Files& files() noexcept { return files_; }
  const Files& files() const noexcept { return files_; }

  /// The whole content of a file, which must exist.
  std::vector<std::byte> read(std::string_view name) const;
  std::vector<std::byte> read(std::string_view name, std::uint64_t offset, std::size_t bytes) const;
  /// Makes the file and makes it longer where it must.
  void write(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);
  void flip_bit(std::string_view name, std::uint64_t offset, unsigned bit);

 private:
  Files files_;
};

/// A directory and its queue over a StoreImage: every transfer has ended when submit() returns, and
/// time moves only in wait(). For what comes of damaged bytes; the simulated disk is for what a
/// disk may do with time and order.
///
/// Ownership: image and clock outlive it. One thread at a time; wake() from any.
class ImageDevice final : public io::Directory, public io::TransferQueue {
 public:
  ImageDevice(StoreImage& image, ManualClock& clock);

  const io::DirectoryFacts& facts() const noexcept override { return facts_; }
  Result<std::vector<io::FileInfo>> list() override;
  Result<io::FileId> open(std::string_view name, io::OpenMode mode) override;
  void close(io::FileId file) noexcept override;
  Result<io::FileInfo> info(io::FileId file) override;
  Status allocate(io::FileId file, std::uint64_t bytes) override;
  Status remove(std::string_view name) override;
  Status sync_directory() override { return {}; }
  Result<io::Space> space() override;
  Status lock(io::FileId /*file*/, std::uint64_t /*deadline_ns*/) override { return {}; }

  void submit(io::Request& request) noexcept override;
  std::size_t reap(std::span<io::Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { is_woken_.store(true, std::memory_order_release); }

 private:
  StoreImage::File& file_of(io::FileId file);

  StoreImage& image_;
  ManualClock& clock_;
  io::DirectoryFacts facts_;
  std::vector<std::string> open_;  ///< Names by FileId; empty: free.
  io::RequestQueue done_;
  std::atomic<bool> is_woken_ = false;
};

}  // namespace larder::corruption
