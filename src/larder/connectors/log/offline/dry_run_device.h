#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "larder/io/device.h"

namespace larder::log_store {

/// A directory and its queue that pretend to extend and remove files, and change nothing: with them
/// Recovery shows what an open of the store would find. Writes and syncs end with EROFS.
///
/// Ownership: owns the device below, which should be a read-only one. Threads: as any device.
class DryRunDevice final : public io::Directory, public io::TransferQueue {
 public:
  explicit DryRunDevice(io::Device below) : below_(std::move(below)) {}

  const io::DirectoryFacts& facts() const noexcept override { return below_.directory->facts(); }
  Result<std::vector<io::FileInfo>> list() override { return below_.directory->list(); }
  Result<io::FileId> open(std::string_view name, io::OpenMode mode) override {
    return below_.directory->open(name, mode);
  }
  void close(io::FileId file) noexcept override;
  Result<io::FileInfo> info(io::FileId file) override { return below_.directory->info(file); }
  /// From now on bytes beyond the file's end read as zeros, up to `bytes`.
  Status allocate(io::FileId file, std::uint64_t bytes) override;
  Status remove(std::string_view /*name*/) override { return {}; }
  Status sync_directory() override { return {}; }
  Result<io::Space> space() override { return below_.directory->space(); }
  Status lock(io::FileId file, std::uint64_t deadline_ns) override {
    return below_.directory->lock(file, deadline_ns);
  }
  void submit(io::Request& request) noexcept override;
  std::size_t reap(std::span<io::Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { below_.queue->wake(); }

 private:
  struct Padded {
    std::vector<iovec> vectors;  // As submitted: the queue below may change its array.
    std::uint64_t bytes = 0;     // How many of them there are, zeros included.
  };

  io::Device below_;
  std::unordered_map<io::FileId, std::uint64_t> allocated_;  // Files that were made longer.
  std::unordered_map<io::Request*, Padded> padded_;          // Their reads in flight.
  std::deque<io::Request*> refused_;
};

}  // namespace larder::log_store
