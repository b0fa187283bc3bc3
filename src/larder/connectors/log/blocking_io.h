#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "larder/io/device.h"

namespace larder::log_store {

/// Transfers that are waited for, as long as the disk takes: opening and closing a store, when
/// nothing else uses the device. Memory, offsets and lengths meet the device's alignment.
class BlockingIo {
 public:
  /// `steps`, where it is not null, counts transfers that ended.
  BlockingIo(io::Device& device, const Clock& clock,
             std::shared_ptr<std::atomic<std::uint64_t>> steps = nullptr)
      : device_(device), clock_(clock), steps_(std::move(steps)) {}

  /// A file that ends early is kCorruption.
  Status read(io::FileId file, std::uint64_t offset, std::span<std::byte> out);
  Status write(io::FileId file, std::uint64_t offset, std::span<const std::byte> bytes);
  Status sync(io::FileId file);

 private:
  Status run(io::Request& request, std::uint64_t bytes, const char* what);

  io::Device& device_;
  const Clock& clock_;
  const std::shared_ptr<std::atomic<std::uint64_t>> steps_;
};

}  // namespace larder::log_store
